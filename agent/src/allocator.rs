//! How the C library holds memory for this process: the agent's few threads do not contend for it, and after a scan of many
//! files it should not stay large. Elsewhere than with glibc nothing is done. Called by `main` and the sampler.

mod sys;

/// Makes the process hold little: one arena for all threads, large blocks and the heap's end given back at once. Called before
/// there are threads.
pub fn hold_little() {
    sys::hold_little();
}

/// Gives back what is free. Takes well under a millisecond for a few MiB.
pub fn give_back() {
    sys::give_back();
}

#[cfg(test)]
mod tests {
    /// Resident pages of this process.
    fn resident() -> usize {
        let text = std::fs::read_to_string("/proc/self/statm").unwrap();
        text.split(' ').nth(1).unwrap().parse().unwrap()
    }

    #[test]
    #[cfg(target_env = "gnu")]
    fn what_is_free_between_what_is_used_is_given_back() {
        let mut blocks: Vec<Option<Vec<u8>>> = (0..4_096).map(|_| Some(vec![1; 16_000])).collect();
        // Something in use behind every 64 free ones: the heap's end does not move.
        blocks.iter_mut().enumerate().filter(|(at, _)| at % 64 != 0).for_each(|(_, block)| *block = None);
        let before = resident();
        super::give_back();
        assert!(resident() + 5_000 < before, "{before} {}", resident());
        assert_eq!(blocks.iter().flatten().count(), 64);
    }
}
