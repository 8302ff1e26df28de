//! The fuzzer's bytes are the draws of the world `single`, so that coverage steers crashes and entries.

#![no_main]

use libfuzzer_sys::fuzz_target;
use scenarios::invariants;
use scenarios::subject::Subject;
use scenarios::world::{Limits, Scenario, Setup};
use sim::{Choices, Lies, Profile, Trace};

fuzz_target!(|data: &[u8]| {
    let setup = Setup {
        scenario: Scenario::Single,
        subject: Subject::Hardened,
        profile: Profile::Posix,
        lies: Lies::NONE,
        limits: Limits::NONE,
    };
    let mut choices = Choices::bytes(data);
    let record = setup.run(&mut choices, &Trace::hashing());
    let violations = invariants::check(&record.history);
    assert!(violations.is_empty(), "{violations:#?}\ntape:\n{}", choices.tape());
});
