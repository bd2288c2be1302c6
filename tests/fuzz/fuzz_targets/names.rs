//! Configuration files of other programs, as the keystore sensor reads them, and `/etc/passwd` and control groups: no panic.

#![no_main]

use keyvigil_agent::parse::names::{Env, PROGRAMS, Said};
use keyvigil_agent::parse::{cgroup, passwd};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    // As the agent reads it.
    let text = String::from_utf8_lossy(bytes);
    let _ = (passwd::users(&text).count(), cgroup::container(&text));
    for program in PROGRAMS {
        let mut included = 0;
        (program.parse)(&text, &mut Env::at("/etc/x/y.conf"), &mut |env, said| {
            // An included file is read with what is known then; once is enough here.
            if let (Said::Include(_, parse), 0) = (said, included) {
                included += 1;
                parse(&text, env, &mut |_, _| ());
            }
        });
    }
});
