//! Corpora of fuzzers, made of what is known: the tapes of kept findings, and of the first seeds of a world, as bytes.

use crate::run::{Keep, RunError, Source, run};
use crate::seeds::Case;
use crate::world::Setup;

/// The bytes under a name.
pub type Named = (String, Vec<u8>);

/// The tapes of all cases of the setup's scenario, and of its seeds below `seeds`, as bytes.
///
/// A case was recorded on the subject that it convicts, on its disk, with its limits, and perhaps by an older build: bytes have
/// no sites by which they could be realigned later. So each is run under the setup, as far as its tape fits, and the bytes are
/// those of that run.
///
/// # Errors
/// [`RunError`].
pub fn of_tapes(setup: Setup, cases: &[Case], seeds: u64) -> Result<Vec<Named>, RunError> {
    let bytes_of = |source| run(setup, source, Keep::Nothing).map(|checked| checked.tape.to_bytes());
    let mut corpus = Vec::new();
    for case in cases.iter().filter(|case| case.setup.scenario == setup.scenario) {
        let source = match &case.source {
            Source::Tape(tape) => Source::Realigned(tape.clone(), 0),
            source => source.clone(),
        };
        corpus.push((case.name.clone(), bytes_of(source)?));
    }
    for seed in 0..seeds {
        corpus.push((format!("seed-{seed}"), bytes_of(Source::Seed(seed))?));
    }
    Ok(corpus)
}
