//! Speed and sharpness beside others, measured.

pub mod peers;
