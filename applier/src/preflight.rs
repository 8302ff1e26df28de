//! Before anything is opened: whether what an operator has configured is enough, and fits what is on the disk.
//!
//! The first of these that does not hold refuses the start, and each refusal names the way out:
//!
//! 1. the sidecar can be looked up;
//! 2. there is none, or encryption is enabled;
//! 3. where it is enabled, there is a KEK,
//! 4. and a path for the sidecar,
//! 5. whose filesystem can make a file and its name durable ([`probe()`]).
//!
//! Nothing is written before the first four are settled. What the sidecar says, and whether the KEK opens its keys, is for
//! [`Applier::start`](crate::Applier::start): it judges what it has made durable itself.
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use std::sync::Arc;
//! use applier::preflight::{Flags, preflight};
//! use applier::{StartError, kek::LocalKek, os::OsFiles};
//!
//! let dir = tempfile::tempdir()?;
//! let sidecar = dir.path().join("keys.json").to_str().map(str::to_owned);
//! let mut flags = Flags { enabled: true, kek: None, sidecar };
//! assert_eq!(preflight(&OsFiles, &flags).err(), Some(StartError::KekRequiredWithFlag));
//! flags.kek = Some(Arc::new(LocalKek::new([7; 32])).into());
//! let keyring = preflight(&OsFiles, &flags)?; // goes into `Config`
//! assert!(keyring.is_some());
//! # Ok(())
//! # }
//! ```

use crate::kek::KekRing;

use crate::admission::MutatorGate;
use crate::apply::KeyringConfig;
use crate::fault::IoFault;
use crate::outcome::StartError;
use crate::ports::Files;
use crate::probe::probe;

/// What an operator has configured about encryption.
#[derive(Clone, Default)]
pub struct Flags {
    /// Whether encryption is switched on.
    pub enabled: bool,
    /// The KEK, loaded; a KEK file that is refused never becomes one (see [`crate::kek::FileKek::load`]).
    pub kek: Option<KekRing>,
    /// Path of the sidecar file. Its directory must exist.
    pub sidecar: Option<String>,
}

impl std::fmt::Debug for Flags {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Flags")
            .field("enabled", &self.enabled)
            .field("kek", &self.kek.is_some())
            .field("sidecar", &self.sidecar)
            .finish()
    }
}

impl Flags {
    /// The gate of administrative requests under these flags. It is open on exactly those nodes that
    /// [`preflight()`] gives a keyring.
    pub fn gate(&self) -> MutatorGate {
        MutatorGate { enabled: self.enabled, kek: self.kek.is_some(), sidecar: self.sidecar.is_some() }
    }
}

/// What goes into [`Config::keyring`](crate::Config::keyring): KEK and sidecar path where encryption is enabled, `None`
/// where it is not. A node that has applied key entries, or has promised its KEK, does not start on `None`.
///
/// # Errors
/// In the order above: [`StartError::Io`], [`StartError::SidecarPresentWithoutFlag`],
/// [`StartError::KekRequiredWithFlag`], [`StartError::SidecarPathRequiredWithFlag`], and those of [`probe()`].
pub fn preflight<F: Files>(files: &F, flags: &Flags) -> Result<Option<KeyringConfig>, StartError> {
    let is_present = match &flags.sidecar {
        None => false,
        Some(path) => files.len(path).map_err(|error| IoFault::new("look up", path, &error))?.is_some(),
    };
    match (flags.enabled, &flags.kek, &flags.sidecar) {
        (false, _, Some(path)) if is_present => {
            Err(StartError::SidecarPresentWithoutFlag { path: path.clone() })
        }
        (false, _, _) => Ok(None),
        (true, None, _) => Err(StartError::KekRequiredWithFlag),
        (true, Some(_), None) => Err(StartError::SidecarPathRequiredWithFlag),
        (true, Some(kek), Some(path)) => {
            probe(files, path)?;
            Ok(Some(KeyringConfig { kek: kek.clone(), sidecar: (*path).to_owned() }))
        }
    }
}
