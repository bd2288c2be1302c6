//! x86-64. Only instructions that compilers put at the beginning of functions are known.

use super::Spot;

/// `rdi rsi rdx rcx r8 r9` and the stack pointer: what a probe still has to find.
const NEEDED: [u8; 7] = [7, 6, 2, 1, 8, 9, 4];
const ENDBR64: [u8; 4] = [0xf3, 0x0f, 0x1e, 0xfa];
/// How far a cheap instruction is looked for.
const REACH: usize = 24;

/// What an instruction is to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// The kernel carries it out itself.
    Cheap,
    /// Changes nothing that a probe needs.
    Harmless,
    /// Takes so many bytes of the stack.
    Takes(u32),
    /// Gives bytes of the stack back, as a function does at its end.
    Gives,
    /// Loads `rax` or `eax` from where `rdi` points, at this offset.
    Loads(u32),
    /// `ret`
    Returns,
}

/// An instruction and its length; `None` for one that is not known.
fn decode(code: &[u8]) -> Option<(Kind, usize)> {
    if code.starts_with(&ENDBR64) {
        return Some((Kind::Harmless, 4));
    }
    let (rex, rest) = match code.first()? {
        rex @ 0x40..=0x4f => (*rex, code.get(1..)?),
        _ => (0, code),
    };
    let before = code.len() - rest.len();
    let (kind, len) = one(rex, rest)?;
    (code.len() >= before + len).then_some((kind, before + len))
}

fn one(rex: u8, code: &[u8]) -> Option<(Kind, usize)> {
    let byte = |at: usize| code.get(at).copied();
    Some(match byte(0)? {
        0x50..=0x57 | 0x90 | 0x70..=0x7f | 0xeb => (Kind::Cheap, if matches!(byte(0)?, 0x50..=0x57 | 0x90) { 1 } else { 2 }),
        0xe8 | 0xe9 => (Kind::Cheap, 5),
        0x0f if (0x80..=0x8f).contains(&byte(1)?) => (Kind::Cheap, 6),
        0x0f if byte(1)? == 0x1f => (Kind::Cheap, 3 + displacement(byte(2)?, byte(3))?),
        0x58..=0x5f => (Kind::Gives, 1),
        0xc3 => (Kind::Returns, 1),
        // test and cmp of two operands write nothing.
        0x84 | 0x85 | 0x38..=0x3b => (Kind::Harmless, 2 + displacement(byte(1)?, byte(2))?),
        // cmp with a constant; sub from the stack pointer; add to it.
        op @ (0x80 | 0x81 | 0x83) => immediate(op, byte(1)?, byte(2), code)?,
        // mov and xor between registers; the second names the target.
        0x89 | 0x31 if byte(1)? >= 0xc0 => (written(byte(1)? & 7 | (rex & 1) << 3)?, 2),
        0x8b if byte(1)? >= 0xc0 => (written(byte(1)? >> 3 & 7 | (rex & 4) << 1)?, 2),
        0x33 if byte(1)? >= 0xc0 => (written(byte(1)? >> 3 & 7 | (rex & 4) << 1)?, 2),
        0x8b => load(rex, code)?,
        op @ 0xb8..=0xbf if rex & 8 == 0 => (written(op & 7 | (rex & 1) << 3)?, 5),
        _ => return None,
    })
}

/// Bytes behind the ModRM byte: SIB and displacement.
fn displacement(modrm: u8, sib: Option<u8>) -> Option<usize> {
    let has_sib = modrm < 0xc0 && modrm & 7 == 4;
    let far = match modrm >> 6 {
        0 if modrm & 7 == 5 || has_sib && sib? & 7 == 5 => 4,
        0 | 3 => 0,
        1 => 1,
        _ => 4,
    };
    Some(usize::from(has_sib) + far)
}

fn immediate(op: u8, modrm: u8, sib: Option<u8>, code: &[u8]) -> Option<(Kind, usize)> {
    let (behind, size) = (2 + displacement(modrm, sib)?, if op == 0x81 { 4 } else { 1 });
    let value = little(code.get(behind..behind + size)?);
    let kind = match (modrm >> 3 & 7, modrm) {
        (7, _) => Kind::Harmless,
        (5, 0xec) => Kind::Takes(value),
        (0, 0xc4) => Kind::Gives,
        _ => return None,
    };
    Some((kind, behind + size))
}

/// `mov disp(%rdi), %rax` or `%eax`; other loads only where they write what nobody needs.
fn load(rex: u8, code: &[u8]) -> Option<(Kind, usize)> {
    let modrm = *code.get(1)?;
    let len = 2 + displacement(modrm, code.get(2).copied())?;
    let target = modrm >> 3 & 7 | (rex & 4) << 1;
    if target == 0 && modrm & 7 == 7 && rex & 1 == 0 {
        return Some((Kind::Loads(little(code.get(2..len)?)), len));
    }
    Some((written(target)?, len))
}

fn written(register: u8) -> Option<Kind> {
    (!NEEDED.contains(&register)).then_some(Kind::Harmless)
}

fn little(bytes: &[u8]) -> u32 {
    bytes.iter().rev().fold(0, |value, byte| value << 8 | u32::from(*byte))
}

/// Where to probe the function that begins with `code`.
pub(crate) fn spot(code: &[u8]) -> Spot {
    let (mut at, mut pushed) = (0, 0u32);
    while at < REACH {
        let Some((kind, len)) = code.get(at..).and_then(decode) else { break };
        match kind {
            Kind::Cheap => return Spot { at: at as u64, pushed, is_cheap: true },
            Kind::Harmless => {}
            // What a load finds may depend on nothing that a probe changes; but it may fault, and then the function was not entered.
            Kind::Takes(bytes) => pushed = pushed.saturating_add(bytes),
            Kind::Loads(_) | Kind::Gives | Kind::Returns => break,
        }
        at += len;
    }
    Spot::START
}

/// Of a function that returns one field of what its first argument points to: the field's offset.
pub(crate) fn field_offset(code: &[u8]) -> Option<u16> {
    let (mut at, mut found) = (0, None);
    while let Some((kind, len)) = code.get(at..).and_then(body) {
        match (kind, found) {
            (Kind::Loads(offset), None) => found = Some(offset),
            // A second field is a function that does more.
            (Kind::Loads(_), Some(_)) => return None,
            (Kind::Returns, found) => return found.and_then(|offset| u16::try_from(offset).ok()),
            _ => {}
        }
        at += len;
    }
    None
}

/// As [`decode`], and what functions do at their end: registers of arguments are cleared before they return.
fn body(code: &[u8]) -> Option<(Kind, usize)> {
    match code {
        [0x31, modrm, ..] if *modrm >= 0xc0 => Some((Kind::Harmless, 2)),
        [0xeb | 0xe8 | 0xe9, ..] => None,
        _ => decode(code),
    }
}

/// Of a function that adds a reference: where the count of them lies (`lock xadd %reg, disp(%rdi)`).
pub(crate) fn reference_offset(code: &[u8]) -> Option<u16> {
    let at = code.windows(3).position(|window| window == [0xf0, 0x0f, 0xc1])?;
    let modrm = *code.get(at + 3)?;
    if modrm & 7 != 7 {
        return None;
    }
    match modrm >> 6 {
        0 => Some(0),
        1 => Some(u16::from(*code.get(at + 4)?)),
        2 => u16::try_from(little(code.get(at + 4..at + 8)?)).ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spot_of(code: &[u8]) -> (u64, u32, bool) {
        let spot = spot(code);
        (spot.at, spot.pushed, spot.is_cheap)
    }

    #[test]
    fn a_probe_goes_where_the_kernel_need_not_single_step() {
        assert_eq!(spot_of(&[0x41, 0x54, 0x49, 0x89, 0xd4]), (0, 0, true), "push %r12");
        assert_eq!(spot_of(&[0xf3, 0x0f, 0x1e, 0xfa, 0x53]), (4, 0, true), "endbr64, push %rbx");
        assert_eq!(spot_of(&[0x48, 0x85, 0xff, 0x0f, 0x84, 0xa7, 0, 0, 0, 0x53]), (3, 0, true), "test, then a jump");
        assert_eq!(spot_of(&[0x48, 0x83, 0xec, 0x08, 0x48, 0x85, 0xff, 0x74, 0x01]), (7, 8, true), "the stack moved by eight bytes");
        assert_eq!(spot_of(&[0xf3, 0x0f, 0x1e, 0xfa, 0x48, 0x81, 0xec, 0x00, 0x01, 0, 0, 0x53]), (11, 256, true));
        assert_eq!(spot_of(&[0x49, 0x89, 0xd0, 0x31, 0xc9, 0xe9, 0, 0, 0, 0]), (0, 0, false), "an argument would be overwritten before");
        assert_eq!(spot_of(&[0x48, 0x8b, 0x41, 0x18, 0xff, 0x60, 0x20]), (0, 0, false), "nothing cheap in sight");
        assert_eq!(spot_of(&[]), (0, 0, false));
        assert_eq!(spot_of(&[0x48]), (0, 0, false), "cut in the middle");
    }

    #[test]
    fn a_function_that_hands_out_a_field_says_where_it_lies() {
        assert_eq!(field_offset(&[0x48, 0x8b, 0x47, 0x28, 0x31, 0xff, 0xc3]), Some(0x28), "mov 0x28(%rdi),%rax; xor; ret");
        assert_eq!(field_offset(&[0x48, 0x8b, 0x87, 0x88, 0, 0, 0, 0xc3]), Some(0x88));
        assert_eq!(field_offset(&[0xf3, 0x0f, 0x1e, 0xfa, 0x8b, 0x07, 0xc3]), Some(0), "endbr64; mov (%rdi),%eax; ret");
        assert_eq!(field_offset(&[0x55, 0x48, 0x89, 0xe5, 0x8b, 0x87, 0xd0, 0x04, 0, 0, 0x5d, 0xc3]), Some(0x4d0), "with a frame pointer");
        let checked = [0x48, 0x85, 0xff, 0x74, 0x09, 0x83, 0x3f, 0x00, 0x75, 0x04, 0x8b, 0x47, 0x48, 0xc3];
        assert_eq!(field_offset(&checked), Some(0x48), "after a look at whether there is an object, and of which kind");
        assert_eq!(field_offset(&[0x48, 0x8b, 0x47, 0x28, 0x48, 0x8b, 0x47, 0x30, 0xc3]), None, "two fields");
        assert_eq!(field_offset(&[0xe9, 1, 2, 3, 4]), None);
        assert_eq!(field_offset(&[0xc3]), None);
    }

    #[test]
    fn a_function_that_adds_a_reference_says_where_they_are_counted() {
        assert_eq!(reference_offset(&[0xb8, 1, 0, 0, 0, 0xf0, 0x0f, 0xc1, 0x47, 0x30, 0x83, 0xc0, 0x01]), Some(0x30));
        assert_eq!(reference_offset(&[0xf0, 0x0f, 0xc1, 0x87, 0x10, 0x01, 0, 0]), Some(0x110));
        assert_eq!(reference_offset(&[0xf0, 0x0f, 0xc1, 0x46, 0x30]), None, "of another argument");
        assert_eq!(reference_offset(&[0xf0, 0x0f, 0xc1]), None);
    }
}
