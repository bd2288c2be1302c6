//! Files of anyone's making in a key directory: no panic, and never more objects than one file may have.

#![no_main]

use keyvigil_agent::parse::keys;
use keyvigil_common::limits::KEYS_PER_FILE_MAX;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = keys::looks_like_keys(bytes, bytes.len() as u64);
    let parsed = keys::keys(bytes);
    // One more: the fault that says there are too many.
    assert!(parsed.objects.len() + parsed.faults.len() <= KEYS_PER_FILE_MAX + 1);
});
