#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| campfire_fuzz::route(data));
