use anchor_lang::prelude::*;
use bytemuck::{Pod, Zeroable};

use super::{VERSION, assert_size};
use crate::{constants::MAX_AMOUNT, error::DatagalaxError};

/// A kind of hardware, seeds `["class", id u16]`.
#[account]
pub struct GpuClass {
    /// Layout version.
    pub version: u8,
    /// PDA bump.
    pub bump: u8,
    /// Id.
    pub id: u16,
    /// Reserved, zero.
    pub reserved_flags: u32,
    /// Name, UTF-8, zero-padded.
    pub name: [u8; 32],
    /// What new registrations get. Rows keep what they registered under.
    pub terms: ClassTerms,
    /// What was proposed for it.
    pub pending: ClassTerms,
    /// When that may be applied, seconds; 0 when nothing is pending.
    pub pending_at: i64,
    /// Reserved, zero.
    pub reserved: [u8; 64],
}

/// What a class asks and what it earns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable, AnchorSerialize, AnchorDeserialize, IdlType)]
#[repr(C)]
pub struct ClassTerms {
    /// Stake base K, base units a unit.
    pub stake_base: u64,
    /// Least memory of one unit, bytes.
    pub minimum_vram: u64,
    /// Throughput that is 100 percent capacity, operations a second of one unit.
    pub reference_throughput: u64,
    /// Weight of one unit; 0 earns nothing (the `cpu` class of public networks).
    pub unit_weight: u16,
    /// 1 when new containers may register in it.
    pub active: u8,
    /// Reserved, zero.
    pub reserved: [u8; 5],
}

assert_size!(ClassTerms, 32);
assert_size!(GpuClass, 8 + 32 + 2 * 32 + 8 + 64);

impl ClassTerms {
    /// Checks every bound.
    ///
    /// # Errors
    /// [`DatagalaxError::ParameterOutOfBounds`].
    pub fn validate(&self) -> Result<()> {
        require!(
            self.reference_throughput > 0 && self.stake_base <= MAX_AMOUNT && self.active <= 1 && self.reserved == [0; 5],
            DatagalaxError::ParameterOutOfBounds
        );
        Ok(())
    }
}

impl GpuClass {
    /// The name as text, up to the first zero; empty when it is not UTF-8.
    pub fn name(&self) -> &str {
        let end = self.name.iter().position(|b| *b == 0).unwrap_or(self.name.len());
        core::str::from_utf8(&self.name[..end]).unwrap_or_default()
    }

    /// What must hold of the account after every instruction.
    ///
    /// # Errors
    /// [`DatagalaxError::InvariantViolated`].
    #[inline(always)]
    pub fn invariant(&self) -> Result<()> {
        require!(self.holds(), DatagalaxError::InvariantViolated);
        Ok(())
    }

    #[inline(never)]
    fn holds(&self) -> bool {
        self.version == VERSION && self.terms.active <= 1
    }
}
