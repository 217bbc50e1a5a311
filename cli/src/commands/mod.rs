//! The commands, one file a noun.

pub mod account;
pub mod block;
pub mod case;
pub mod checker;
pub mod claim;
pub mod class;
pub mod container;
pub mod doctor;
pub mod epoch;
pub mod govern;
pub mod gpu;
pub mod indexer;
pub mod keeper;
pub mod mint;
pub mod network;
pub mod party;
pub mod provider;
pub mod rewards;
pub mod withdraw;

use datagalax_client::amount::{AmountError, parse_ath};

/// An amount of ATH on the command line, in base units.
pub fn ath(text: &str) -> Result<u64, AmountError> {
    parse_ath(text)
}

/// 32 bytes in hexadecimal on the command line.
pub fn bytes32(text: &str) -> Result<[u8; 32], String> {
    let mut bytes = [0; 32];
    hex::decode_to_slice(text, &mut bytes).map_err(|e| format!("{e}; expected 64 hexadecimal digits"))?;
    Ok(bytes)
}

/// A text into a zero-padded field.
///
/// # Errors
/// A sentence when it is longer than the field.
pub fn padded<const N: usize>(text: &str) -> Result<[u8; N], String> {
    let mut bytes = [0; N];
    let part = bytes.get_mut(..text.len()).ok_or_else(|| format!("`{text}` is longer than {N} bytes: shorten it"))?;
    part.copy_from_slice(text.as_bytes());
    Ok(bytes)
}

/// A zero-padded field as text.
pub fn unpadded(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_padded_and_read_back() {
        assert_eq!(unpadded(&padded::<16>("eu-west").unwrap()), "eu-west");
        assert_eq!(unpadded(&padded::<4>("full").unwrap()), "full");
        assert!(padded::<4>("longer").unwrap_err().contains("4 bytes"));
    }

    #[test]
    fn fingerprints_are_64_digits() {
        assert_eq!(bytes32(&"0f".repeat(32)), Ok([15; 32]));
        for bad in ["", "0f", &"zz".repeat(32), &"0".repeat(66)] {
            assert!(bytes32(bad).unwrap_err().contains("64 hexadecimal"));
        }
    }
}
