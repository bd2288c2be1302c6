//! A kubeconfig names key files relative to itself.

use super::{Env, Say};
use crate::parse::kubeconfig::files;

/// Reads one file.
pub fn parse(text: &str, env: &mut Env, say: &mut Say<'_>) {
    for named in files(text.as_bytes()) {
        let line = 1 + text.as_bytes()[..named.offset].iter().filter(|b| **b == b'\n').count();
        let path = Env::join(env.directory(), &named.path);
        // Of many contexts often only one is in use.
        let said = env.name(path, named.what, false, u32::try_from(line).unwrap_or(u32::MAX));
        say(env, said);
    }
}
