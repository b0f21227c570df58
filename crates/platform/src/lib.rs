//! Linux calls that need care or that `rustix` lacks. With `memory`, the only room that may use `unsafe`.
