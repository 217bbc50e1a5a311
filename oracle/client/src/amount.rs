//! $ATH between base units and text: exact, never through floating point.

use std::fmt;

use datagalax::constants::{MAX_AMOUNT, MINT_DECIMALS};
use thiserror::Error;

const UNIT: u64 = 10u64.pow(MINT_DECIMALS as u32);

/// Why a text is not an amount.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum AmountError {
    /// Something other than digits, separators and one decimal point.
    #[error("`{0}` is not an amount of ATH: write for example 1500, 1,500.25 or 0.000001")]
    NotANumber(String),
    /// More decimals than the mint has.
    #[error("`{0}` has more than {MINT_DECIMALS} decimals: the smallest amount is 0.000001 ATH")]
    TooFine(String),
    /// Above what any account may hold.
    #[error("`{0}` ATH is more than an account may hold: the most is {most}", most = Ath(MAX_AMOUNT))]
    TooLarge(String),
}

/// An amount in base units that prints as ATH with thousands separators and six decimals, such as `1,234.500000`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ath(pub u64);

impl fmt::Display for Ath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = format!("{}.{:0width$}", grouped(self.0 / UNIT), self.0 % UNIT, width = usize::from(MINT_DECIMALS));
        f.pad(&text)
    }
}

/// A whole number with thousands separators.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Reads an amount of ATH into base units. Thousands separators (`,` or `_`) may stand anywhere before the decimal point.
///
/// # Errors
/// [`AmountError`] when the text is not a number, has more than six decimals or exceeds 2^56 base units.
pub fn parse_ath(text: &str) -> Result<u64, AmountError> {
    let not_a_number = || AmountError::NotANumber(text.to_owned());
    let (whole, fraction) = text.trim().split_once('.').unwrap_or((text.trim(), "0"));
    let whole: String = whole.chars().filter(|c| !matches!(c, ',' | '_')).collect();
    let digits = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
    if !digits(&whole) || !digits(fraction) {
        return Err(not_a_number());
    }
    let width = usize::from(MINT_DECIMALS);
    if fraction.len() > width {
        return Err(AmountError::TooFine(text.to_owned()));
    }
    let too_large = || AmountError::TooLarge(text.to_owned());
    let whole: u64 = whole.parse().map_err(|_| too_large())?;
    let fraction: u64 = format!("{fraction:0<width$}").parse().map_err(|_| not_a_number())?;
    whole.checked_mul(UNIT).and_then(|w| w.checked_add(fraction)).filter(|a| *a <= MAX_AMOUNT).ok_or_else(too_large)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_printed_is_read_back(amount in 0..=MAX_AMOUNT) {
            prop_assert_eq!(parse_ath(&Ath(amount).to_string()), Ok(amount));
        }

        #[test]
        fn no_text_panics(text in ".{0,40}") {
            let _ = parse_ath(&text);
        }
    }

    #[test]
    fn prints_six_decimals_and_separators() {
        assert_eq!(Ath(0).to_string(), "0.000000");
        assert_eq!(Ath(1_234_567_890_123).to_string(), "1,234,567.890123");
        assert_eq!(format!("{:>10}", Ath(1)), "  0.000001");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(1_000), "1,000");
    }

    #[test]
    fn refuses_what_is_no_amount() {
        for text in ["", ".", "1.", ".5", "-1", "1e6", "ATH", "1.2.3", "0x10"] {
            assert!(matches!(parse_ath(text), Err(AmountError::NotANumber(_))), "{text}");
        }
        assert!(matches!(parse_ath("0.0000001"), Err(AmountError::TooFine(_))));
        assert!(matches!(parse_ath("99999999999999999999999"), Err(AmountError::TooLarge(_))));
        assert!(matches!(parse_ath("72057594038"), Err(AmountError::TooLarge(_))));
        assert_eq!(parse_ath("1,500.25"), Ok(1_500_250_000));
    }
}
