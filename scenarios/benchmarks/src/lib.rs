//! Speed and sharpness beside others, measured.
