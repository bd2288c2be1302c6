//! The closed sets of words that a rule is written with. Each is read in any case, written in its one form, and refuses
//! another word with the list of those it knows. Knows nothing of rules; used by `rule.rs` and everyone who shows an alert.

use serde::{Deserialize, Serialize};

macro_rules! choice {
    ($(#[$doc:meta])* $name:ident, $field:literal, [$($(#[$variant_doc:meta])* $variant:ident = $word:literal),+ $(,)?]) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(into = "&'static str", try_from = "String")]
        pub enum $name {
            $($(#[$variant_doc])* $variant),+
        }

        impl $name {
            /// All of them, in order.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The word in rules and answers.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word),+
                }
            }
        }

        impl From<$name> for &'static str {
            fn from(choice: $name) -> Self {
                choice.as_str()
            }
        }

        impl TryFrom<String> for $name {
            type Error = String;

            fn try_from(word: String) -> Result<Self, String> {
                word.parse()
            }
        }

        impl std::str::FromStr for $name {
            type Err = String;

            fn from_str(word: &str) -> Result<Self, String> {
                let known = Self::ALL.iter().find(|choice| choice.as_str().eq_ignore_ascii_case(word.trim()));
                known.copied().ok_or_else(|| {
                    let words: Vec<&str> = Self::ALL.iter().map(|choice| choice.as_str()).collect();
                    let shown: String = word.chars().take(32).collect();
                    format!(concat!($field, ": {:?} is not one of: {}"), shown, words.join(" "))
                })
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

choice! {
    /// How much an alert matters; a later one matters more.
    Priority, "priority", [
        /// Good to know.
        Info = "info",
        /// This month.
        Low = "low",
        /// This week.
        Medium = "medium",
        /// Today.
        High = "high",
        /// Now.
        Critical = "critical",
    ]
}

choice! {
    /// How a value is compared with the threshold.
    Comparison, "comparison", [
        /// Greater.
        Above = ">",
        /// Greater or equal.
        AtLeast = ">=",
        /// Less.
        Below = "<",
        /// Less or equal.
        AtMost = "<=",
        /// Equal, bit for bit.
        Equal = "==",
        /// Not equal.
        NotEqual = "!=",
    ]
}

choice! {
    /// What a rule looks at.
    RuleKind, "kind", [
        /// The value of a metric against a threshold.
        Threshold = "threshold",
        /// The days that keys and certificates are still valid.
        KeyExpiry = "key_expiry",
        /// What is wrong with keys and certificates.
        Finding = "finding",
        /// What happened to keys, and who did it.
        Event = "event",
        /// Hosts that deliver, and do not see what they should.
        Blind = "blind",
        /// Hosts that deliver nothing.
        Silent = "silent",
    ]
}

choice! {
    /// Where a rule comes from.
    Origin, "origin", [
        /// Comes with the product.
        Shipped = "shipped",
        /// A file of the operator.
        File = "file",
        /// Made through the API.
        Api = "api",
    ]
}

choice! {
    /// Where an alert is in its life.
    State, "state", [
        /// The condition holds, not yet for its duration.
        Pending = "pending",
        /// The condition held for its duration.
        Firing = "firing",
        /// Firing, and someone has said that they are on it.
        Acknowledged = "acknowledged",
        /// Was firing; the condition is seen not to hold.
        Resolved = "resolved",
    ]
}

impl Comparison {
    /// Whether `value` compares so with `threshold`. `NaN` never does: it is no value.
    #[must_use]
    pub fn holds(self, value: f64, threshold: f64) -> bool {
        if value.is_nan() || threshold.is_nan() {
            return false;
        }
        match self {
            Self::Above => value > threshold,
            Self::AtLeast => value >= threshold,
            Self::Below => value < threshold,
            Self::AtMost => value <= threshold,
            Self::Equal => value == threshold,
            Self::NotEqual => value != threshold,
        }
    }

    /// The word of a sentence: `is 97 %, above 90 %`.
    #[must_use]
    pub fn in_words(self) -> &'static str {
        match self {
            Self::Above => "above",
            Self::AtLeast => "at or above",
            Self::Below => "below",
            Self::AtMost => "at or below",
            Self::Equal => "equal to",
            Self::NotEqual => "other than",
        }
    }
}

impl State {
    /// Whether it is firing, acknowledged or not.
    #[must_use]
    pub fn is_active(self) -> bool {
        matches!(self, Self::Firing | Self::Acknowledged)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_in_any_case_and_others_are_refused_with_the_list() {
        assert_eq!(serde_json::from_str::<Priority>("\"HIGH\"").unwrap(), Priority::High);
        assert_eq!(serde_json::to_string(&Priority::High).unwrap(), "\"high\"");
        let fault = serde_json::from_str::<Comparison>("\"=>\"").unwrap_err().to_string();
        assert_eq!(fault, "comparison: \"=>\" is not one of: > >= < <= == !=");
        assert!(Priority::Critical > Priority::High);
    }

    #[test]
    fn no_comparison_holds_for_what_is_no_number() {
        for comparison in Comparison::ALL {
            assert!(!comparison.holds(f64::NAN, 1.0), "{comparison}");
        }
        assert!(Comparison::Above.holds(f64::INFINITY, 90.0));
    }
}
