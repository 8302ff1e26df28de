//! Where the project is.

use std::path::{Path, PathBuf};

/// The workspace's own directory.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_owned()
}
