//! Times and lengths of time as users write them.

use keyvigil_common::config::Period;

/// The end of the year 9999: no time lies beyond it, and sums of times do not overflow.
const MS_MAX: i64 = 253_402_300_799_999;

/// An instant as Unix ms: RFC 3339, a number of ms, `now`, or a length of time before
/// (`-1h`) or after now (`+30d`).
///
/// # Errors
/// How to write it.
pub fn parse(text: &str, now_ms: i64) -> Result<i64, String> {
    let fault = || format!("{text:?} is not a time: write 2026-11-22T18:00:00Z, Unix milliseconds, now, -1h or +30d");
    if text == "now" {
        return Ok(now_ms);
    }
    if let Ok(ms) = text.parse::<i64>()
        && (0..=MS_MAX).contains(&ms)
    {
        return Ok(ms);
    }
    if let Some(ago) = text.strip_prefix("now-").or_else(|| text.strip_prefix('-')) {
        return ago.parse::<Period>().map(|p| now_ms.saturating_sub(p.as_ms()).max(0)).map_err(|_| fault());
    }
    if let Some(ahead) = text.strip_prefix('+') {
        return ahead.parse::<Period>().map(|p| now_ms.saturating_add(p.as_ms()).min(MS_MAX)).map_err(|_| fault());
    }
    text.parse::<jiff::Timestamp>().map(jiff::Timestamp::as_millisecond).map_err(|_| fault())
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
        for bad in ["yesterday", "", "-", "2025-11-22", "-1 fortnight"] {
            assert!(parse(bad, now).unwrap_err().contains("is not a time"), "{bad}");
        }
    }
}
