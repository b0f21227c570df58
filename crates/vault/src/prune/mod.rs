//! Taking away what no snapshot needs: a plan that can be shown, then its execution.

pub mod plan;
