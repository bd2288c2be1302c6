//! Times of ASN.1 in the forms that real certificates have them in, also those that DER forbids: without seconds, with
//! fractions, with an offset. Format: ITU-T X.680, RFC 5280 4.1.2.5.

use crate::der::{Element, GENERALIZED_TIME, UTC_TIME};

/// Unix ms of a UTCTime or GeneralizedTime.
#[must_use]
pub fn unix_ms(element: &Element<'_>) -> Option<i64> {
    let mut digits = Digits(element.body);
    let year = match element.tag {
        GENERALIZED_TIME => digits.number(4)?,
        UTC_TIME => match digits.number(2)? {
            year @ 0..50 => 2_000 + year,
            year => 1_900 + year,
        },
        _ => return None,
    };
    let (month, day, hour) = (digits.number(2)?, digits.number(2)?, digits.number(2)?);
    let minute = digits.number(2).unwrap_or(0);
    let second = digits.number(2).unwrap_or(0);
    if let Some((b'.' | b',', rest)) = digits.0.split_first() {
        digits.0 = &rest[rest.iter().take_while(|byte| byte.is_ascii_digit()).count()..];
    }
    let offset_minutes = match digits.0.split_first() {
        // Without a zone it is local time of a place that nobody names.
        Some((b'Z', [])) | None => 0,
        Some((sign @ (b'+' | b'-'), rest)) => {
            let mut rest = Digits(rest);
            let minutes = rest.number(2)? * 60 + rest.number(2).unwrap_or(0);
            if *sign == b'-' { -minutes } else { minutes }
        }
        _ => return None,
    };
    let is_date = (1..=12).contains(&month) && (1..=31).contains(&day) && hour < 25 && minute < 60 && second < 61;
    let seconds = days(year, month, day) * 86_400 + hour * 3_600 + (minute - offset_minutes) * 60 + second;
    is_date.then_some(seconds * 1_000)
}

struct Digits<'a>(&'a [u8]);

impl Digits<'_> {
    fn number(&mut self, count: usize) -> Option<i64> {
        let (head, rest) = self.0.split_at_checked(count)?;
        let number = head.iter().try_fold(0, |number, byte| byte.is_ascii_digit().then(|| number * 10 + i64::from(byte - b'0')))?;
        self.0 = rest;
        Some(number)
    }
}

/// Days from 1970-01-01 to a day of the Gregorian calendar; the year counted from March, so that the leap day is its last.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}
