//! GPUs through NVIDIA's management library, loaded at run time.

use datagalax_protocol::GpuMetrics;
use nvml_wrapper::{
    Device, Nvml,
    enum_wrappers::device::{Clock, EccCounter, MemoryError, TemperatureSensor},
    error::NvmlError,
};

/// Opens the library; `None` on a host that has no NVIDIA driver or no card.
///
/// # Errors
/// A driver is there and does not work: the operator must know, rather than be taken for a host without GPUs.
pub(crate) fn open() -> Result<Option<Nvml>, NvmlError> {
    let nvml = match Nvml::init() {
        Ok(nvml) => nvml,
        Err(NvmlError::LibloadingError(_) | NvmlError::LibraryNotFound | NvmlError::DriverNotLoaded) => return Ok(None),
        Err(error) => return Err(error),
    };
    Ok((nvml.device_count()? > 0).then_some(nvml))
}

/// Reads all cards, by ascending UUID.
///
/// # Errors
/// A card does not answer the questions that every card answers (it may have fallen off the bus).
pub(crate) fn read(nvml: &Nvml) -> Result<Vec<GpuMetrics>, NvmlError> {
    let driver = nvml.sys_driver_version()?;
    let mut gpus = (0..nvml.device_count()?)
        .map(|index| read_one(&nvml.device_by_index(index)?, &driver))
        .collect::<Result<Vec<_>, _>>()?;
    gpus.sort_unstable_by(|a, b| a.uuid.cmp(&b.uuid));
    Ok(gpus)
}

fn read_one(device: &Device<'_>, driver: &str) -> Result<GpuMetrics, NvmlError> {
    let memory = device.memory_info()?;
    let ecc = |kind| device.total_ecc_errors(kind, EccCounter::Volatile).ok();
    Ok(GpuMetrics {
        uuid: device.uuid()?,
        model: device.name()?,
        driver: driver.to_owned(),
        memory_total: memory.total,
        memory_used: memory.used,
        // What follows is not supported by every card; NVML says so with an error of its own each time.
        utilisation: device.utilization_rates().ok().and_then(|rates| rates.gpu.try_into().ok()),
        temperature: device.temperature(TemperatureSensor::Gpu).ok().and_then(|degrees| degrees.try_into().ok()),
        power: device.power_usage().ok(),
        clock: device.clock_info(Clock::SM).ok(),
        pcie_generation: device.current_pcie_link_gen().ok().and_then(|generation| generation.try_into().ok()),
        pcie_width: device.current_pcie_link_width().ok().and_then(|width| width.try_into().ok()),
        ecc_corrected: ecc(MemoryError::Corrected),
        ecc_uncorrected: ecc(MemoryError::Uncorrected),
        mig: device.mig_mode().ok().map(|mode| mode.current != 0),
    })
}
