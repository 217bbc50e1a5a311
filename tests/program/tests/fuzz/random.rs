//! Repeatable randomness: SplitMix64, so that a seed means the same calls on every machine and in every version.

pub struct Random(u64);

impl Random {
    /// The stream of one call: each is repeated alone from seed and number.
    pub fn of(seed: u64, number: u64) -> Self {
        let mut random = Self(seed);
        let mixed = random.next() ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Self(mixed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }

    pub fn percent(&mut self, chance: usize) -> bool {
        self.below(100) < chance
    }

    pub fn pick<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len())]
    }

    pub fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            let word = self.next().to_le_bytes();
            chunk.copy_from_slice(&word[..chunk.len()]);
        }
    }

    pub fn bytes(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.fill(&mut bytes);
        bytes
    }

    /// Overwrites a field of 1, 2, 4, 8 or 32 bytes, mostly where fields lie, mostly with a value at a boundary.
    pub fn scribble(&mut self, bytes: &mut [u8]) {
        let width = *self.pick(&[1, 1, 2, 4, 4, 8, 8, 32]);
        if bytes.len() < width {
            return self.fill(bytes);
        }
        let mut at = self.below(bytes.len() - width + 1);
        if self.percent(80) {
            at -= at % width.min(8);
        }
        let field = &mut bytes[at..at + width];
        match self.below(8) {
            0 => field.fill(0),
            1 => field.fill(u8::MAX),
            2 => {
                field.fill(0);
                field[0] = 1;
            }
            3 => {
                field.fill(u8::MAX);
                field[0] = u8::MAX - 1;
            }
            // The greatest signed one.
            4 => {
                field.fill(u8::MAX);
                field[width - 1] = i8::MAX as u8;
            }
            // One more, one less.
            5 => field[0] = field[0].wrapping_add(1),
            6 => field[0] = field[0].wrapping_sub(1),
            _ => self.fill(field),
        }
    }

    pub fn flip(&mut self, bytes: &mut [u8]) {
        if !bytes.is_empty() {
            let at = self.below(bytes.len());
            bytes[at] ^= 1 << self.below(8);
        }
    }
}
