//! The program in LiteSVM: one module an instruction, and flows over many epochs.

mod smoke;
