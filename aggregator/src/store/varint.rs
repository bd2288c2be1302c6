//! Numbers in few bytes: LEB128, and zigzag for those that may be negative.

/// Appends `n`.
pub(super) fn put(out: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        out.push((n as u8) | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

/// Appends a number that may be negative.
pub(super) fn put_signed(out: &mut Vec<u8>, n: i64) {
    put(out, ((n << 1) ^ (n >> 63)).cast_unsigned());
}

/// Takes a number off the front; `None` where the bytes end or hold none.
pub(super) fn take(at: &mut &[u8]) -> Option<u64> {
    let mut n = 0u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = at.split_first()?;
        *at = rest;
        n |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(n);
        }
    }
    None
}

/// Takes a number that may be negative.
pub(super) fn take_signed(at: &mut &[u8]) -> Option<i64> {
    take(at).map(|n| (n >> 1).cast_signed() ^ -(n & 1).cast_signed())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_return_and_cut_ones_do_not() {
        for n in [0, 1, 127, 128, 300, i64::MAX, i64::MIN, -1, -64, -65] {
            let mut bytes = Vec::new();
            put_signed(&mut bytes, n);
            assert_eq!(take_signed(&mut bytes.as_slice()), Some(n));
            assert_eq!(take_signed(&mut &bytes[..bytes.len() - 1]), None);
        }
        assert_eq!(take(&mut [0x80; 11].as_slice()), None, "no number is that long");
    }
}
