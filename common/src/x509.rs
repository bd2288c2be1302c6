//! Names, numbers and times of X.509 as the whole product writes them, so that what one part says of a certificate is what
//! another looks it up by.

mod name;
mod time;

pub use name::{general, name, text};
pub use time::unix_ms;

use crate::der::magnitude;
use crate::hex;

/// A serial number, the contents of its INTEGER, as `openssl` prints it, but in lower case. Negative ones, which no authority
/// should give, have a sign: else -5 and 251 were one.
#[must_use]
pub fn serial(number: &[u8]) -> String {
    if number.first().is_some_and(|first| first & 0x80 != 0) {
        let mut carry = true;
        let mut negated: Vec<u8> = number
            .iter()
            .rev()
            .map(|byte| {
                let (value, over) = (!byte).overflowing_add(u8::from(carry));
                carry = over;
                value
            })
            .collect();
        negated.reverse();
        return format!("-{}", hex(magnitude(&negated)));
    }
    match magnitude(number) {
        [] => "00".to_owned(),
        digits => hex(digits),
    }
}
