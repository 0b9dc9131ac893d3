#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    haulage::fuzzing::url(data);
    haulage_aws::fuzzing::url(data);
});
