//! How well is seen what, and why not better: told to the agent, which tells it as coverage.

use super::kernel::{CALLS, ON_FUNCTIONS, RIGHTS, URING};
use super::message::Sight;

/// Opens as fanotify tells them.
const AT_LEAST: &str = "at least";
const EXACT: &str = "exact";
const NONE: &str = "none";

fn sight(what: &str, accuracy: &str, reason: impl Into<String>) -> Sight {
    Sight { what: what.to_owned(), accuracy: accuracy.to_owned(), reason: reason.into() }
}

/// Which of the two tricks is left when this setting of the kernel says that nobody may use `io_uring`.
pub(super) fn tricks(why: &str, uring_disabled: Option<&str>) -> String {
    let by_uring = if uring_disabled.is_some_and(|value| value.trim() == "2") {
        ""
    } else {
        ", or asks io_uring for no answer by a link of another name (the setting kernel.io_uring_disabled=2 ends that)"
    };
    format!(
        "the kernel does not let its functions be watched ({why}), so one is hidden by a thread that replaces its descriptor before the call returns, one that is denied by asking for a link of another name{by_uring}"
    )
}

/// With programs in the kernel, of which it refused some. `tricks` says how an open can be hidden from them, `no_library` why no library is
/// looked into.
pub(super) fn of_programs(refused: &[(String, String)], tricks: Option<String>, no_library: Option<String>) -> Vec<Sight> {
    let fault = |programs: &[&str]| refused.iter().find(|(name, _)| programs.contains(&name.as_str())).map(|(name, e)| format!("{name}: {e}"));
    let of = |what: &str, fault: Option<String>| sight(what, if fault.is_none() { EXACT } else { NONE }, fault.unwrap_or_default());
    let mut sights = vec![of("opens", fault(&[CALLS])), of("operations", fault(&ON_FUNCTIONS).or(no_library))];
    sights.extend(tricks.map(|how| sight("opens that their program hides", AT_LEAST, how)));
    sights.extend(fault(&[RIGHTS]).map(|e| sight("opens that are denied by links of other names", NONE, e)));
    sights.extend(fault(&URING).map(|e| sight("opens by io_uring", NONE, e)));
    sights
}

/// With marks on files, as the kernel takes no programs.
pub(super) fn of_marks(why: &str, refused: Option<&str>, audited: &str) -> Vec<Sight> {
    let how = "fanotify tells them: several of one process as one, none that is denied, and the program only while the process lives";
    let opens = match refused {
        Some(e) => sight("opens", NONE, format!("a file cannot be marked: {e}")),
        None => sight("opens", AT_LEAST, format!("{how}; {audited}; the kernel takes no programs: {why}")),
    };
    vec![opens, sight("operations", NONE, why)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_refused_takes_only_its_own_sight() {
        let accuracy = |sights: &[Sight], what: &str| sights.iter().find(|sight| sight.what == what).map(|sight| sight.accuracy.clone());
        let refused = [(URING[1].to_owned(), "no such point".to_owned())];
        let sights = of_programs(&refused, None, None);
        assert_eq!(accuracy(&sights, "opens").as_deref(), Some(EXACT));
        assert_eq!(accuracy(&sights, "opens by io_uring").as_deref(), Some(NONE));
        assert_eq!(accuracy(&of_programs(&[(CALLS.to_owned(), "refused".to_owned())], None, None), "opens").as_deref(), Some(NONE));
        let hidden = of_programs(&[], Some(tricks("EINVAL", Some("2\n"))), None);
        assert_eq!(accuracy(&hidden, "opens that their program hides").as_deref(), Some(AT_LEAST));
        assert_eq!([Some("2\n"), Some("1\n"), None].map(|value| tricks("EINVAL", value).contains("io_uring")), [false, true, true]);
        assert_eq!(accuracy(&of_marks("EPERM", None, ""), "opens").as_deref(), Some(AT_LEAST));
        assert_eq!(accuracy(&of_marks("EPERM", Some("/k: EACCES"), ""), "opens").as_deref(), Some(NONE));
    }
}
