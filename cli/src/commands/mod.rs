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
pub mod leases;
pub mod mint;
pub mod network;
pub mod offers;
pub mod party;
pub mod provider;
pub mod rent;
pub mod rewards;
pub mod run;
pub mod withdraw;

use datagalax_client::amount::{AmountError, parse_ath};

/// An amount of ATH on the command line, in base units.
pub fn ath(text: &str) -> Result<u64, AmountError> {
    parse_ath(text)
}

/// A length of time on the command line, such as `2h` or `1h 30min`, in seconds.
pub fn seconds(text: &str) -> Result<u32, String> {
    let read = humantime::parse_duration(text).ok().and_then(|time| u32::try_from(time.as_secs()).ok());
    read.filter(|seconds| *seconds > 0)
        .ok_or_else(|| format!("`{text}` is no length of time: write for example 90s, 10min, 2h or 1h 30min"))
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
    fn lengths_of_time_have_units() {
        assert_eq!(
            ["90s", "10min", "2h", "1h 30min", "1day"].map(|text| seconds(text).unwrap()),
            [90, 600, 7_200, 5_400, 86_400]
        );
        for bad in ["", "10", "0s", "1ms", "2 fortnights", "200years"] {
            assert!(seconds(bad).unwrap_err().contains("2h"), "{bad}");
        }
    }

    #[test]
    fn fingerprints_are_64_digits() {
        assert_eq!(bytes32(&"0f".repeat(32)), Ok([15; 32]));
        for bad in ["", "0f", &"zz".repeat(32), &"0".repeat(66)] {
            assert!(bytes32(bad).unwrap_err().contains("64 hexadecimal"));
        }
    }
}
