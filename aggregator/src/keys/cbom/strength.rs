//! How strong algorithms are: in bits against computers of today (NIST SP 800-57 part 1, table 2), and as one of the five
//! categories of NIST's post-quantum standardisation against quantum computers, where 0 is none.

/// Bits; `None` where nobody can say.
pub(super) fn classical(name: &str, bits: Option<u32>, curve: Option<&str>) -> Option<u32> {
    let of_factoring = |bits: u32| {
        [(15_360, 256), (7_680, 192), (3_072, 128), (2_048, 112), (1_024, 80)].into_iter().find(|(least, _)| bits >= *least).map(|(_, level)| level)
    };
    match name {
        "rsa" | "rsa-pss" | "rsa-oaep" | "dsa" | "dh" | "elgamal" => of_factoring(bits?),
        "ed25519" | "x25519" | "ed25519-sk" | "ecdsa-sk" => Some(128),
        "ed448" | "x448" => Some(224),
        "aes" => bits,
        "ec" => {
            let digits: String = curve?.chars().skip_while(|c| !c.is_ascii_digit()).take_while(char::is_ascii_digit).collect();
            Some(digits.parse::<u32>().ok()? / 2)
        }
        _ => None,
    }
}

/// The category, for keys and signatures; `None` where it depends on what is not known.
pub(super) fn quantum(name: &str, bits: Option<u32>) -> Option<u8> {
    const CLASSICAL: &str = "rsa ec dsa dh x25519 x448 ed25519 ed448 elgamal gost sm2 md2 md4 md5 ssh-rsa ssh-dss ssh-ed25519 sk-ssh-ed25519 sk-ecdsa";
    let lower = name.to_ascii_lowercase();
    let by_size = |text: &str, sizes: [(&str, u8); 3]| sizes.into_iter().find(|(size, _)| text.starts_with(size)).map(|(_, level)| level);
    if let Some(set) = lower.strip_prefix("ml-dsa-") {
        by_size(set, [("44", 2), ("65", 3), ("87", 5)])
    } else if let Some(set) = lower.strip_prefix("ml-kem-") {
        by_size(set, [("512", 1), ("768", 3), ("1024", 5)])
    } else if let Some((_, set)) = lower.strip_prefix("slh-dsa-").and_then(|set| set.split_once('-')) {
        by_size(set, [("128", 1), ("192", 3), ("256", 5)])
    } else if lower.starts_with("aes") {
        let size = bits.map(|bits| bits.to_string()).or_else(|| lower.strip_prefix("aes-").map(str::to_owned))?;
        by_size(&size, [("128", 1), ("192", 3), ("256", 5)])
    } else {
        // The name of a signature has the key's algorithm behind that of the digest.
        let is_classical = CLASSICAL.split(' ').any(|start| lower.starts_with(start)) || lower.contains("withrsa") || lower.contains("withsha1");
        is_classical.then_some(0)
    }
}
