//! Program files: read, checked, and turned into the accounts of the upgradeable loader.

use std::{fs::File, io::Read};

use anyhow::{Context, Result, bail, ensure};
use solana_account::Account;
use solana_loader_v3_interface::{get_program_data_address, state::UpgradeableLoaderState};
use solana_pubkey::Pubkey;
use solana_sdk_ids::bpf_loader_upgradeable;
use surfpool_core::surfnet::svm::SurfnetSvm;

use crate::settings::ProgramFile;

/// The largest account of Solana in bytes (10 MiB): a program's bytecode and the loader's header must fit.
const MAX_ACCOUNT_BYTES: usize = 10 * 1024 * 1024;

/// ELF: 64-bit, little-endian, version 1.
const ELF_IDENT: [u8; 7] = [0x7f, b'E', b'L', b'F', 2, 1, 1];

/// Offset and values of ELF's `e_machine`: Linux BPF, which the loader takes too, and Solana's SBPF.
const ELF_MACHINE_AT: usize = 18;
const EM_BPF: u16 = 247;
const EM_SBPF: u16 = 263;

/// A program whose file looks right. [`Program::load`] has the runtime verify the bytecode itself.
#[derive(Debug)]
pub struct Program {
    file: ProgramFile,
    elf: Vec<u8>,
}

impl Program {
    /// Reads the file and checks that it is an ELF for Solana's virtual machine.
    ///
    /// # Errors
    /// When the file is missing, empty, too big, or something else than such an ELF.
    pub fn read(file: &ProgramFile) -> Result<Self> {
        let (id, path) = (file.id, file.path.display());
        let limit = MAX_ACCOUNT_BYTES - UpgradeableLoaderState::size_of_programdata_metadata();
        let mut elf = Vec::new();
        File::open(&file.path)
            .and_then(|f| f.take(limit as u64 + 1).read_to_end(&mut elf))
            .with_context(|| format!("the program file {path} of {id} cannot be read; build the program first (`cargo xtask build-program`), or correct the path"))?;
        ensure!(
            elf.len() <= limit,
            "the program file {path} of {id} has more than {limit} bytes, the most an account can hold"
        );
        check_elf(&elf).with_context(|| {
            format!("the program file {path} of {id} is not a program of Solana; build it again (`cargo xtask build-program`), or correct the path")
        })?;
        Ok(Self { file: file.clone(), elf })
    }

    /// The program's address.
    pub fn id(&self) -> Pubkey {
        self.file.id
    }

    /// Writes the program's two accounts; the runtime parses, relocates and verifies the bytecode as it would on a deploy.
    ///
    /// # Errors
    /// When the address is taken (a built-in or standard program) or the runtime refuses the bytecode.
    pub fn load(&self, svm: &mut SurfnetSvm, upgrade_authority: Option<Pubkey>) -> Result<()> {
        let (id, path) = (self.file.id, self.file.path.display());
        let taken = svm.get_account(&id).map_err(|e| anyhow::anyhow!("account {id} cannot be looked up: {e}"))?.is_some();
        ensure!(
            !taken,
            "the address {id} of {path} belongs to a program every network has; give the program an address of its own"
        );

        let programdata_address = get_program_data_address(&id);
        // The bytecode starts after the longest header, whether or not there is an authority in it.
        let header = UpgradeableLoaderState::ProgramData {
            slot: svm.get_latest_absolute_slot(),
            upgrade_authority_address: upgrade_authority,
        };
        let mut programdata = bincode::serialize(&header)?;
        programdata.resize(UpgradeableLoaderState::size_of_programdata_metadata(), 0);
        programdata.extend_from_slice(&self.elf);
        let program = bincode::serialize(&UpgradeableLoaderState::Program { programdata_address })?;

        // The order matters: the runtime compiles the program when its own account is set, from the data account.
        for (address, data, executable) in [(programdata_address, programdata, false), (id, program, true)] {
            let account = Account {
                lamports: svm.inner.minimum_balance_for_rent_exemption(data.len()),
                data,
                owner: bpf_loader_upgradeable::id(),
                executable,
                rent_epoch: u64::MAX,
            };
            svm.set_account(&address, account).map_err(|e| {
                anyhow::anyhow!("the runtime refuses the program file {path} of {id} ({e}): it is damaged or was built for another virtual machine; build it again (`cargo xtask build-program`)")
            })?;
        }
        Ok(())
    }
}

fn check_elf(bytes: &[u8]) -> Result<()> {
    if bytes.is_empty() {
        bail!("the file is empty");
    }
    ensure!(bytes.starts_with(&ELF_IDENT), "it does not start as a 64-bit little-endian ELF does");
    let machine = bytes.get(ELF_MACHINE_AT..ELF_MACHINE_AT + 2).context("the file ends within the ELF header")?;
    let machine = u16::from_le_bytes([machine[0], machine[1]]);
    ensure!(
        machine == EM_BPF || machine == EM_SBPF,
        "the ELF is for machine {machine}, not BPF ({EM_BPF}) or SBPF ({EM_SBPF}): a library of the host?"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn elf_header(machine: u16) -> Vec<u8> {
        let mut header = vec![0u8; 64];
        header[..ELF_IDENT.len()].copy_from_slice(&ELF_IDENT);
        header[ELF_MACHINE_AT..ELF_MACHINE_AT + 2].copy_from_slice(&machine.to_le_bytes());
        header
    }

    #[test]
    fn only_an_elf_for_the_chain_passes() {
        assert!(check_elf(&elf_header(EM_BPF)).is_ok());
        assert!(check_elf(&elf_header(EM_SBPF)).is_ok());
        let x86_64 = check_elf(&elf_header(62)).unwrap_err().to_string();
        assert!(x86_64.contains("machine 62"), "{x86_64}");
        for bad in [&b""[..], b"#!/bin/sh\n", &elf_header(EM_BPF)[..10], &elf_header(EM_BPF)[1..]] {
            assert!(check_elf(bad).is_err());
        }
    }
}
