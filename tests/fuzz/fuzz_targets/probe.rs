//! What the agent's helper is told and looks into: records of the kernel and of audit, messages of both sides, libraries of anybody. No panic, and
//! nothing larger than what was read.

#![no_main]

use std::fs::File;
use std::os::unix::fs::FileExt;

use keyvigil_agent::parse::audit;
use keyvigil_agent::probe::helper;
use keyvigil_agent::probe::layout::Record;
use keyvigil_agent::probe::library::{Symbol, symbols};
use keyvigil_agent::probe::message::{Ask, Tell};
use libfuzzer_sys::fuzz_target;

thread_local! {
    static LIBRARY: File = nameless();
}

/// A file in memory that is gone with this process.
fn nameless() -> File {
    let path = format!("/dev/shm/keyvigil-fuzz-{}", std::process::id());
    let file = File::options().read(true).write(true).create(true).truncate(true).open(&path).expect("a file in memory");
    std::fs::remove_file(path).expect("its name is ours");
    file
}

fuzz_target!(|bytes: &[u8]| {
    if let Some(record) = Record::read(bytes) {
        let told = record.exe.len() + record.cgroup.len() + record.asked.len() + record.base.len();
        assert!(told <= bytes.len(), "a path is no longer than its names with a NUL each");
    }
    if let Ok(ask) = helper::read(bytes) {
        let again = serde_json::to_vec(&ask).expect("it was read");
        assert_eq!(serde_json::from_slice::<Ask>(&again).expect("it reads what it writes"), ask);
    }
    if let Some((_, audit::Part::Item(item))) = audit::message(bytes) {
        assert!(item.name.len() <= 3 * bytes.len(), "what is no text is replaced by no more than three bytes each");
    }
    let _ = serde_json::from_slice::<Tell>(bytes);
    let symbol = Symbol::of_code(bytes.to_vec());
    assert!(symbol.probed_at() <= bytes.len() as u64);
    let _ = (symbol.field(), symbol.references());
    LIBRARY.with(|file| {
        file.set_len(0).expect("emptied");
        file.write_all_at(bytes, 0).expect("written");
        let _ = symbols(file, |_| true);
    });
});
