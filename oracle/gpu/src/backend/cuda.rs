//! An NVIDIA card as a device, through the driver API.
//!
//! The driver and NVRTC are looked for when the program runs; the kernels are `kernels/challenge.cu`, compiled here for the
//! oldest architecture that has what they need (8.0 with tensor cores for bytes, 7.5 or 6.1 below), which the driver then
//! translates for the card. No card was at hand when this was written: the kernels' arithmetic is tested in an emulator
//! (`tests/kernels.rs`), this file's calls are not, see `docs/proof-of-capacity.md`.

use std::sync::Arc;

use cudarc::{
    driver::{
        CudaContext, CudaFunction, CudaSlice, CudaStream, DriverError, LaunchConfig, PushKernelArg,
        sys::{self, CUfunction_attribute_enum::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES},
    },
    nvrtc::{self, CompileOptions},
};
use datagalax_protocol::{Digest, WorkSize};

use super::{Backend, BackendError};
use crate::{
    capacity::{PANEL, device_memory},
    kernel::row_header,
    matrix::{Factor, Stream},
    simd::LANES,
};

const SOURCE: &str = include_str!("../../kernels/challenge.cu");
/// Shared memory of a block of `multiply_mma`: four stages of 128 + 256 rows of 64 bytes. Every card from 8.0 on gives it.
const MMA_SHARED: u32 = 4 * (128 + 256) * 64;

/// Steps of all walkers in one launch: a fraction of a second on any card. Desktops stop kernels that keep the screen waiting.
const STEPS_PER_LAUNCH: u32 = 1 << 9;

/// One card.
pub struct Cuda {
    name: String,
    context: Arc<CudaContext>,
    stream: Arc<CudaStream>,
    expand: CudaFunction,
    multiply: Multiply,
    hash: CudaFunction,
    walk: CudaFunction,
    loaded: Option<Loaded>,
}

/// The way to multiply that suits the card.
enum Multiply {
    /// Tensor cores, compute capability 8.0 and above.
    Mma(CudaFunction),
    /// Four products an instruction, 6.1 and above.
    Dp4a(CudaFunction),
}

/// What lies in the card's memory.
struct Loaded {
    size: WorkSize,
    pitch: u32,
    /// The right matrix by columns.
    b: CudaSlice<i8>,
    /// A panel of the left matrix.
    a: CudaSlice<i8>,
    panel: u32,
    product: CudaSlice<i32>,
    digests: CudaSlice<u8>,
    multiplied: bool,
}

impl Cuda {
    /// All cards that the driver shows, in its order; none on a host without driver, or without NVRTC.
    ///
    /// # Errors
    /// There are cards, and one of them does not work or is older than compute capability 6.1.
    pub fn open_all() -> Result<Vec<Self>, BackendError> {
        // SAFETY: both only open the vendor's library by its name; whoever can put another in its place owns the host.
        let (driver, compiler) = unsafe { (sys::is_culib_present(), nvrtc::sys::is_culib_present()) };
        if !driver {
            return Ok(Vec::new());
        }
        let count = match CudaContext::device_count() {
            Ok(count) => count,
            Err(DriverError(sys::CUresult::CUDA_ERROR_NO_DEVICE)) => 0,
            Err(error) => return Err(refused("the CUDA driver")(error)),
        };
        if count > 0 && !compiler {
            let reason = "there is a card, but no NVRTC: install the CUDA run-time compiler (libnvrtc)".to_owned();
            return Err(BackendError::Device { device: "the CUDA driver".into(), reason });
        }
        (0..usize::try_from(count).unwrap_or_default()).map(Self::open).collect()
    }

    fn open(ordinal: usize) -> Result<Self, BackendError> {
        let device = format!("cuda:{ordinal}");
        let driver = refused(&device);
        let context = CudaContext::new(ordinal).map_err(&driver)?;
        let capability = context.compute_capability().map_err(&driver)?;
        let name = format!("{device} {} ({}.{})", context.name().map_err(&driver)?, capability.0, capability.1);
        let driver = refused(&name);
        let architecture = match capability {
            (8.., _) => "compute_80",
            (7, 5..) => "compute_75",
            (7, _) | (6, 1..) => "compute_61",
            _ => {
                let reason = "older than compute capability 6.1".to_owned();
                return Err(BackendError::Device { device: name, reason });
            }
        };
        let options =
            CompileOptions { options: vec![format!("--gpu-architecture={architecture}")], ..CompileOptions::default() };
        let ptx = nvrtc::compile_ptx_with_opts(SOURCE, options)
            .map_err(|error| BackendError::Device { device: name.clone(), reason: format!("NVRTC: {error:?}") })?;
        let module = context.load_module(ptx).map_err(&driver)?;
        let function = |name: &str| module.load_function(name).map_err(&driver);
        let multiply = if capability.0 >= 8 {
            let mma = function("multiply_mma")?;
            mma.set_attribute(CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, MMA_SHARED as i32).map_err(&driver)?;
            Multiply::Mma(mma)
        } else {
            Multiply::Dp4a(function("multiply_dp4a")?)
        };
        let (expand, hash, walk) = (function("expand")?, function("hash_rows")?, function("walk")?);
        let stream = context.default_stream();
        Ok(Self { name, context, stream, expand, multiply, hash, walk, loaded: None })
    }

    /// Whether products are made on tensor cores.
    pub fn has_tensor_path(&self) -> bool {
        matches!(self.multiply, Multiply::Mma(_))
    }
}

/// The driver's refusal as an error that names the device.
fn refused(device: &str) -> impl Fn(DriverError) -> BackendError + use<> {
    let device = device.to_owned();
    move |error| BackendError::Device { device: device.clone(), reason: error.to_string() }
}

/// Blocks of a grid of one thread an item.
fn grid(items: u64, threads: u32) -> LaunchConfig {
    let blocks = u32::try_from(items.div_ceil(u64::from(threads))).unwrap_or(u32::MAX);
    LaunchConfig { grid_dim: (blocks, 1, 1), block_dim: (threads, 1, 1), shared_mem_bytes: 0 }
}

/// Expands rows `first..first + rows` of a stream into `out`, of `rows * pitch` bytes at least.
fn expand(
    stream: &Arc<CudaStream>,
    function: &CudaFunction,
    elements: &Stream,
    (first, rows): (u32, u32),
    (inner, pitch): (u32, u32),
    out: &mut CudaSlice<i8>,
) -> Result<(), DriverError> {
    let [key0, key1] = elements.key();
    let mut launch = stream.launch_builder(function);
    launch.arg(out).arg(&key0).arg(&key1).arg(&first).arg(&rows).arg(&inner).arg(&pitch);
    // The kernel strides over what a grid this size does not reach.
    let words = u64::from(rows) * u64::from(pitch / 8);
    // SAFETY: the arguments are those of `expand` in kernels/challenge.cu, and `out` holds rows * pitch bytes.
    unsafe { launch.launch(grid(words.min(1 << 24), 256)) }.map(drop)
}

impl Loaded {
    /// The product with the left matrix of `a_seed`, panel by panel.
    fn multiply(
        &mut self,
        stream: &Arc<CudaStream>,
        expander: &CudaFunction,
        multiply: &Multiply,
        a_seed: &Digest,
    ) -> Result<(), DriverError> {
        let (elements, pitch) = (Stream::new(a_seed, Factor::A), self.pitch);
        let WorkSize { rows: all, inner, columns } = self.size;
        for first in (0..all).step_by(self.panel as usize) {
            let rows = self.panel.min(all - first);
            expand(stream, expander, &elements, (first, rows), (inner, pitch), &mut self.a)?;
            let mut panel = self.product.slice_mut(first as usize * columns as usize..);
            let (function, config) = match multiply {
                Multiply::Mma(function) => {
                    let blocks = u64::from(rows.div_ceil(128)) * u64::from(columns.div_ceil(256));
                    (function, LaunchConfig { shared_mem_bytes: MMA_SHARED, ..grid(blocks * 256, 256) })
                }
                Multiply::Dp4a(function) => {
                    (function, grid(u64::from(rows.div_ceil(64)) * u64::from(columns.div_ceil(64)) * 256, 256))
                }
            };
            let mut launch = stream.launch_builder(function);
            launch.arg(&self.a).arg(&self.b).arg(&mut panel).arg(&rows).arg(&columns).arg(&pitch);
            // SAFETY: the arguments are those of `multiply_*` in kernels/challenge.cu; `a` holds `rows` rows, `b` `columns`
            // of them, and what is left of the product at least rows * columns values.
            unsafe { launch.launch(config) }?;
        }
        Ok(())
    }

    /// The digests of the product's rows.
    fn hash(&mut self, stream: &Arc<CudaStream>, hash: &CudaFunction, a_seed: &Digest) -> Result<Vec<Digest>, DriverError> {
        let header = row_header(a_seed, &self.size, 0);
        let words: Vec<u32> = header.as_chunks::<4>().0.iter().map(|bytes| u32::from_be_bytes(*bytes)).collect();
        let header = stream.clone_htod(&words)?;
        let WorkSize { rows, columns, .. } = self.size;
        let mut launch = stream.launch_builder(hash);
        launch.arg(&self.product).arg(&mut self.digests).arg(&header).arg(&rows).arg(&columns);
        // SAFETY: the arguments are those of `hash_rows` in kernels/challenge.cu; the product holds rows * columns values,
        // the digests 32 bytes a row, the header 16 words.
        unsafe { launch.launch(grid(u64::from(rows), 64)) }?;
        // The copy waits for all of the stream.
        let bytes = stream.clone_dtoh(&self.digests)?;
        Ok(bytes.as_chunks::<32>().0.to_vec())
    }
}

impl Backend for Cuda {
    fn describe(&self) -> String {
        format!("{}, {}", self.name, if self.has_tensor_path() { "tensor cores" } else { "dp4a" })
    }

    fn free_memory(&self) -> Result<u64, BackendError> {
        let (free, _) = self.context.mem_get_info().map_err(refused(&self.name))?;
        Ok(free as u64)
    }

    fn load(&mut self, b_seed: &Digest, size: &WorkSize) -> Result<(), BackendError> {
        self.loaded = None;
        let (needed, free) = (device_memory(size), self.free_memory()?);
        if needed > free {
            return Err(BackendError::Memory { device: self.name.clone(), needed, free });
        }
        let driver = refused(&self.name);
        let WorkSize { rows, inner, columns } = *size;
        let too_wide = || BackendError::Device { device: self.name.clone(), reason: "the matrix is too wide".into() };
        let pitch = inner.checked_next_multiple_of(LANES as u32).ok_or_else(too_wide)?;
        let panel = rows.min(PANEL as u32);
        let (pitch_bytes, stream) = (pitch as usize, &self.stream);
        // SAFETY: each is written whole before it is read: `b` just below, `a` and the product by every multiplication, the
        // digests by every hashing.
        let (mut b, a, product, digests) = unsafe {
            (
                stream.alloc::<i8>(columns as usize * pitch_bytes).map_err(&driver)?,
                stream.alloc::<i8>(panel as usize * pitch_bytes).map_err(&driver)?,
                stream.alloc::<i32>(rows as usize * columns as usize).map_err(&driver)?,
                stream.alloc::<u8>(32 * rows as usize).map_err(&driver)?,
            )
        };
        let elements = Stream::new(b_seed, Factor::B);
        expand(stream, &self.expand, &elements, (0, columns), (inner, pitch), &mut b).map_err(&driver)?;
        self.loaded = Some(Loaded { size: *size, pitch, b, a, panel, product, digests, multiplied: false });
        Ok(())
    }

    fn multiply(&mut self, a_seed: &Digest) -> Result<Vec<Digest>, BackendError> {
        let Self { name, stream, expand, multiply, hash, loaded, .. } = self;
        let loaded = loaded.as_mut().ok_or(BackendError::OutOfOrder("multiply"))?;
        let work = loaded.multiply(stream, expand, multiply, a_seed);
        let digests = work.and_then(|()| loaded.hash(stream, hash, a_seed)).map_err(refused(name))?;
        loaded.multiplied = true;
        Ok(digests)
    }

    fn walk(&mut self, [key0, key1]: [u64; 2], walkers: u32, steps: u32) -> Result<Vec<u64>, BackendError> {
        let driver = refused(&self.name);
        let loaded = self.loaded.as_ref().filter(|loaded| loaded.multiplied).ok_or(BackendError::OutOfOrder("walk"))?;
        let cells = loaded.product.len() as u64;
        let mut states = self.stream.alloc_zeros::<u64>(walkers as usize).map_err(&driver)?;
        let mut done = 0;
        while done < steps {
            let (begins, part) = (u32::from(done == 0), (steps - done).min(STEPS_PER_LAUNCH));
            let mut launch = self.stream.launch_builder(&self.walk);
            launch.arg(&loaded.product).arg(&mut states).arg(&cells).arg(&key0).arg(&key1);
            launch.arg(&walkers).arg(&begins).arg(&part);
            // SAFETY: the arguments are those of `walk` in kernels/challenge.cu; every cell is below `cells`, and the states
            // are one a walker.
            unsafe { launch.launch(grid(u64::from(walkers), 128)) }.map_err(&driver)?;
            done += part;
        }
        self.stream.clone_dtoh(&states).map_err(&driver)
    }

    fn release(&mut self) {
        self.loaded = None;
        if let Err(error) = self.stream.synchronize() {
            tracing::warn!(device = self.name, %error, "the card's memory may not be free yet");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_without_driver_has_no_cards_and_one_with_cards_agrees_with_the_processor() {
        // Runs on whatever the machine has; on one with cards this is the test of the digests.
        let size = WorkSize { rows: 300, inner: 200, columns: 260 };
        let mut reference = crate::backend::Reference::default();
        reference.load(&[1; 32], &size).unwrap();
        let digests = reference.multiply(&[2; 32]).unwrap();
        let states = reference.walk([3, 4], 100, 20).unwrap();
        for mut card in Cuda::open_all().unwrap() {
            card.load(&[1; 32], &size).unwrap();
            assert_eq!(card.multiply(&[2; 32]).unwrap(), digests, "{}", card.describe());
            assert_eq!(card.walk([3, 4], 100, 20).unwrap(), states, "{}", card.describe());
            card.release();
            assert_eq!(card.multiply(&[2; 32]), Err(BackendError::OutOfOrder("multiply")));
        }
    }
}
