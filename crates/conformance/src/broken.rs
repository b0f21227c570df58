//! Implementations with one mistake each: a suite that none of them fails would be a comment.
