#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| campfire_fuzz::frame_text(data));
