#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| crdb_proxy::fuzzing::run("cloud", input));
