//! The first instructions of a function of a library, as far as it takes to know two things: where a probe on it is cheap, and, of a
//! function that only hands out one field of a structure, at which offset that field lies. So nothing about the layout of a library's
//! structures need be known beforehand: the library says it itself, in every version. Pure; what is not understood is `None`.
//!
//! Why some instructions are cheap: the kernel carries out a push, a no-op or a jump itself; all others it has to single-step, which
//! costs ten times as much (`arch/x86/kernel/uprobes.c`).

#[cfg(target_arch = "x86_64")]
#[path = "prologue/x86_64.rs"]
mod machine;

#[cfg(not(target_arch = "x86_64"))]
#[path = "prologue/other.rs"]
mod machine;

pub(crate) use self::machine::{field_offset, reference_offset, spot};

/// Bytes of a function that are looked at.
pub(crate) const CODE_BYTES: usize = 96;

/// Where to probe a function so that its arguments are still in their registers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Spot {
    /// Bytes behind the function's beginning.
    pub(crate) at: u64,
    /// Bytes that the function has taken from the stack until there.
    pub(crate) pushed: u32,
    /// The kernel need not single-step the instruction.
    pub(crate) is_cheap: bool,
}

impl Spot {
    /// The beginning, whatever it costs.
    pub(crate) const START: Self = Self { at: 0, pushed: 0, is_cheap: false };
}
