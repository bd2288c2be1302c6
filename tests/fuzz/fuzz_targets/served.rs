//! What any server of the host may answer: no panic, and never more certificates than one port may serve.

#![no_main]

use keyvigil_agent::parse::{cgroup, greeting, ocsp, procfs, tls};
use keyvigil_common::limits::SERVED_CHAIN_MAX;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let tls::Reading::Done(hello) = tls::read(bytes) {
        assert!(hello.chain.len() <= SERVED_CHAIN_MAX + 1);
    }
    let _ = (tls::is_record(bytes), ocsp::answer(bytes, "01"));
    let _ = (greeting::greeting(bytes, 25), greeting::mysql_offers_tls(bytes), greeting::ldap_agrees(bytes));
    let text = String::from_utf8_lossy(bytes);
    let _ = (procfs::tcp::listening(&text).count(), cgroup::unit(&text));
});
