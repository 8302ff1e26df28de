//! What an envelope refuses.
