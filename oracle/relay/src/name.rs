//! The name under which a host is reached through a relay: its operator key, written so that it fits a DNS label.

use solana_pubkey::Pubkey;

/// Digits of RFC 4648 base32, lower case.
const DIGITS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
/// Digits of a key: 256 bits, five a digit.
pub const LABEL_LEN: usize = 52;

/// The label of an operator key: 52 characters of lower-case base32 without padding.
pub fn label(operator: &Pubkey) -> String {
    let (mut label, mut bits, mut held) = (String::with_capacity(LABEL_LEN), 0u32, 0);
    let mut digit = |value: u32| label.push(char::from(DIGITS[(value & 31) as usize]));
    for byte in operator.to_bytes() {
        (bits, held) = (bits << 8 | u32::from(byte), held + 8);
        while held >= 5 {
            held -= 5;
            digit(bits >> held);
        }
    }
    // One bit is left, padded with zeros on its right.
    digit(bits << (5 - held));
    label
}

/// The operator that a host name leads to: its first label, in either case. `None` when that is no key's label.
pub fn operator(host: &str) -> Option<Pubkey> {
    let label = host.split('.').next()?;
    if label.len() != LABEL_LEN {
        return None;
    }
    let (mut key, mut bits, mut held, mut at) = ([0; 32], 0u32, 0, 0);
    for character in label.bytes() {
        let value = DIGITS.iter().position(|digit| *digit == character.to_ascii_lowercase())?;
        (bits, held) = (bits << 5 | value as u32, held + 5);
        if held >= 8 {
            held -= 8;
            key[at] = (bits >> held) as u8;
            at += 1;
        }
    }
    // A key has one label: what is left over must be the padding's zeros.
    (bits & ((1 << held) - 1) == 0).then(|| Pubkey::new_from_array(key))
}

/// The endpoint to register on chain for a host behind a relay whose public side is `domain:port`.
pub fn endpoint(operator: &Pubkey, domain: &str, port: u16) -> String {
    format!("https://{}.{domain}:{port}", label(operator))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_labels() {
        // RFC 4648 base32 of the bytes, as any other implementation writes it.
        assert_eq!(label(&Pubkey::new_from_array([0; 32])), "a".repeat(52));
        assert_eq!(label(&Pubkey::new_from_array([0xff; 32])), format!("{}q", "7".repeat(51)));
        let counting = Pubkey::new_from_array(std::array::from_fn(|i| i as u8));
        assert_eq!(label(&counting), "aaaqeayeaudaocajbifqydiob4ibceqtcqkrmfyydenbwha5dypq");
        let endpoint = endpoint(&counting, "relay.example", 443);
        assert_eq!(endpoint, "https://aaaqeayeaudaocajbifqydiob4ibceqtcqkrmfyydenbwha5dypq.relay.example:443");
        assert!(endpoint.len() <= datagalax::constants::MAX_ENDPOINT, "it fits the container's account");
    }

    #[test]
    fn what_is_no_label() {
        let good = label(&Pubkey::new_from_array([7; 32]));
        assert!(operator(&good).is_some());
        // Too short, too long, a wrong digit, padding bits that are not zero.
        for bad in
            ["", ".", "relay.example", &good[1..], &format!("{good}a"), &good.replacen(&good[..1], "1", 1), &"7".repeat(52)]
        {
            assert_eq!(operator(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn a_key_has_one_label(key: [u8; 32], domain in "(\\.[a-z]{1,8}){0,3}") {
            let key = Pubkey::new_from_array(key);
            let host = label(&key) + &domain;
            prop_assert_eq!(operator(&host), Some(key));
            prop_assert_eq!(operator(&host.to_uppercase()), Some(key));
        }

        #[test]
        fn no_host_name_panics(host in "\\PC{0,80}") {
            if let Some(key) = operator(&host) {
                prop_assert_eq!(label(&key), host.split('.').next().unwrap().to_ascii_lowercase());
            }
        }
    }
}
