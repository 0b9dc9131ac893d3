#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| haulage_aws::fuzzing::message(data));
