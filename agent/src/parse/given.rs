//! What the caller of a parse knows beside the bytes, and a parser deep inside may need: passwords of the file, lists of weak
//! keys. It holds for one parse on one thread, so that no parser has an argument for what one of twenty needs; without it
//! nothing is opened and nothing looked up. Given by the keystore sensor.

use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;

use super::pbe::Password;

/// Lists of keys that are known to be weak, as Debian's packages install them.
pub trait Blacklist: Send + Sync {
    /// Whether the list for keys of this kind and size (`RSA-2048`) has one of the last 20 hex digits of a key's hashes.
    fn has(&self, list: &str, endings: &[String]) -> bool;
}

/// What a parse is given.
#[derive(Clone, Default)]
pub struct Given {
    /// Tried in this order.
    pub passwords: Arc<[Password]>,
    /// Where weak keys are looked up.
    pub blacklist: Option<Arc<dyn Blacklist>>,
}

impl fmt::Debug for Given {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Given").field("passwords", &self.passwords.len()).field("blacklist", &self.blacklist.is_some()).finish()
    }
}

thread_local! {
    static GIVEN: RefCell<Option<Given>> = const { RefCell::new(None) };
}

/// Runs `parse`, in which `given` holds.
pub fn during<T>(given: Given, parse: impl FnOnce() -> T) -> T {
    /// Also where `parse` panics.
    struct Forget;
    impl Drop for Forget {
        fn drop(&mut self) {
            GIVEN.set(None);
        }
    }
    GIVEN.set(Some(given));
    let _forget = Forget;
    parse()
}

/// Passwords of the file that is parsed.
pub(super) fn passwords() -> Arc<[Password]> {
    GIVEN.with_borrow(|given| given.as_ref().map(|given| Arc::clone(&given.passwords))).unwrap_or_default()
}

/// Lists to look its keys up in.
pub(super) fn blacklist() -> Option<Arc<dyn Blacklist>> {
    GIVEN.with_borrow(|given| given.as_ref()?.blacklist.clone())
}
