//! What text output looks like on a terminal. Nothing is said by a colour alone.

use anstyle::{AnsiColor, Style};

/// Headings of tables.
pub(super) const HEAD: Style = Style::new().bold();
/// What must not be overlooked.
pub(super) const BAD: Style = AnsiColor::Red.on_default().bold();
/// What should be looked at.
pub(super) const WARN: Style = AnsiColor::Yellow.on_default();
/// What is as it should be.
pub(super) const GOOD: Style = AnsiColor::Green.on_default();
/// A line to be copied.
pub(super) const COMMAND: Style = AnsiColor::Cyan.on_default();
