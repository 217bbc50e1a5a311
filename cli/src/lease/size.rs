//! Sizes on the command line.

/// Factors by suffix: `K` and `KiB` are 1,024, `KB` is 1,000.
const SUFFIXES: [(&str, u64); 13] = [
    ("kib", 1 << 10),
    ("mib", 1 << 20),
    ("gib", 1 << 30),
    ("tib", 1 << 40),
    ("kb", 1_000),
    ("mb", 1_000_000),
    ("gb", 1_000_000_000),
    ("tb", 1_000_000_000_000),
    ("k", 1 << 10),
    ("m", 1 << 20),
    ("g", 1 << 30),
    ("t", 1 << 40),
    ("b", 1),
];

/// Reads a size such as `24GiB`, `512M` or `80GB` into bytes. The unit must be named.
///
/// # Errors
/// A sentence.
pub fn parse(text: &str) -> Result<u64, String> {
    let lower = text.trim().to_ascii_lowercase();
    let read = SUFFIXES.iter().find_map(|(suffix, factor)| {
        let number: u64 = lower.strip_suffix(suffix)?.trim_end().parse().ok()?;
        number.checked_mul(*factor)
    });
    read.ok_or_else(|| format!("`{text}` is no size: write a whole number and its unit, such as 24GiB, 512M or 80GB"))
}

/// Bytes as people read them, in the largest binary unit that gives a whole number or at least two digits.
pub fn show(bytes: u64) -> String {
    let units = [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")];
    for (shift, name) in units {
        let whole = bytes >> shift;
        if whole >= 10 || (whole > 0 && bytes == whole << shift) {
            return format!("{whole} {name}");
        }
    }
    format!("{bytes} B")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        assert_eq!(parse("24GiB"), Ok(24 << 30));
        assert_eq!(parse("24 g"), Ok(24 << 30));
        assert_eq!(parse("80GB"), Ok(80_000_000_000));
        assert_eq!(parse("512m"), Ok(512 << 20));
        assert_eq!(parse("7b"), Ok(7));
        for bad in ["", "24", "G", "-1G", "1.5G", "99999999999999T", "1x"] {
            assert!(parse(bad).unwrap_err().contains("24GiB"), "{bad}");
        }
        assert_eq!(
            [show(0), show(80 << 30), show(1 << 20), show((1 << 30) + 1), show(15 << 29)].join(" "),
            "0 B 80 GiB 1 MiB 1024 MiB 7680 MiB"
        );
    }
}
