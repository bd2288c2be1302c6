//! Files of anyone's making in a key directory, with a password configured for stores: no panic, and never more objects than one
//! file may have.

#![no_main]

use keyvigil_agent::parse::given::{Given, during};
use keyvigil_agent::parse::keys;
use keyvigil_agent::parse::pbe::Password;
use keyvigil_common::limits::KEYS_PER_FILE_MAX;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = keys::looks_like_keys(bytes, bytes.len() as u64);
    // That of the seeds.
    let given = Given { passwords: vec![Password::new("x".to_owned()), Password::new("xxxxxx".to_owned())].into(), blacklist: None };
    let parsed = during(given, || keys::keys(bytes));
    // One more: the fault that says there are too many.
    assert!(parsed.objects.len() + parsed.faults.len() <= KEYS_PER_FILE_MAX + 1);
});
