//! Times and lengths of time as users write them.

use keyvigil_common::config::Period;

/// The end of the year 9999: no time lies beyond it, and sums of times do not overflow.
const MS_MAX: i64 = 253_402_300_799_999;

const FORMS: &str = "2026-11-22T18:00:00Z, 2026-11-22, 2026-11, 2026, Unix milliseconds, now, -1h or +30d";
/// Less than this, but for 0, is no number of ms that anyone means (it is in 1973): it is a year, seconds, or a slip.
const MS_MIN: i64 = 100_000_000_000;

/// An instant as Unix ms: RFC 3339, a day, month or year (its start in UTC), a number of ms, `now`, or a length of time before
/// (`-1h`) or after now (`+30d`).
///
/// # Errors
/// How to write it.
pub fn parse(text: &str, now_ms: i64) -> Result<i64, String> {
    let fault = || format!("{text:?} is not a time: write {FORMS}");
    if text == "now" {
        return Ok(now_ms);
    }
    if let Some(start) = date(text) {
        return Ok(start);
    }
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        return match text.parse() {
            Ok(ms) if ms == 0 || (MS_MIN..=MS_MAX).contains(&ms) => Ok(ms),
            _ => Err(format!("{text:?} is no time: Unix milliseconds have 12 digits or more, seconds need 000 behind them; or write {FORMS}")),
        };
    }
    if let Some(ago) = text.strip_prefix("now-").or_else(|| text.strip_prefix('-')) {
        return ago.parse::<Period>().map(|p| now_ms.saturating_sub(p.as_ms()).max(0)).map_err(|_| fault());
    }
    if let Some(ahead) = text.strip_prefix('+') {
        return ahead.parse::<Period>().map(|p| now_ms.saturating_add(p.as_ms()).min(MS_MAX)).map_err(|_| fault());
    }
    text.parse::<jiff::Timestamp>().map(jiff::Timestamp::as_millisecond).map_err(|_| fault())
}

/// The start of `2027`, `2027-01` or `2027-01-31`, in UTC.
fn date(text: &str) -> Option<i64> {
    let digits = text.bytes().all(|b| b.is_ascii_digit() || b == b'-');
    let whole = match text.len() {
        4 => format!("{text}-01-01"),
        7 => format!("{text}-01"),
        _ => text.to_owned(),
    };
    let date: jiff::civil::Date = whole.parse().ok().filter(|_| digits && whole.len() == 10)?;
    let start = date.at(0, 0, 0, 0).to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp().as_millisecond();
    (0..=MS_MAX).contains(&start).then_some(start)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_forms_of_one_instant_agree() {
        let now = 1_763_838_000_000;
        for text in ["2025-11-22T18:00:00Z", "2025-11-22T19:00:00+01:00", "1763834400000", "-1h", "now-60m", "-3600"] {
            assert_eq!(parse(text, now).unwrap(), 1_763_834_400_000, "{text}");
        }
        assert_eq!(parse("+30d", now).unwrap(), now + 30 * 86_400_000);
        for bad in ["yesterday", "", "-", "2025-13", "2025-11-31", "2025-1-1", "-1 fortnight", "20251122T18"] {
            assert!(parse(bad, now).unwrap_err().contains("is not a time"), "{bad}");
        }
    }

    #[test]
    fn a_year_is_a_year_and_no_number_of_ms_after_1970() {
        let start = 1_798_761_600_000;
        for text in ["2027", "2027-01", "2027-01-01", "2027-01-01T00:00:00Z", "1798761600000"] {
            assert_eq!(parse(text, 0).unwrap(), start, "{text}");
        }
        assert_eq!(parse("2027-02", 0).unwrap(), start + 31 * 86_400_000);
        assert_eq!(parse("0", 5).unwrap(), 0, "from the beginning");
        for slip in ["1", "99", "0099", "1969", "1798761600", "20270101", "99999999999", "99999999999999999999"] {
            assert!(parse(slip, 0).unwrap_err().contains("000 behind them"), "{slip}");
        }
    }
}
