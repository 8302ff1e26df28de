#![no_main]
use scenarios::fuzzing;
libfuzzer_sys::fuzz_target!(init: fuzzing::begin(), |data: &[u8]| fuzzing::check("registry", data));
