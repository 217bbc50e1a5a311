//! GPUs through NVIDIA's management library, loaded at run time.

use datagalax_protocol::{
    GpuDetails, GpuMetrics,
    inspection::{GpuProcess, MAX_PROCESSES, Virtualisation},
};
use nvml_wrapper::{
    Device, Nvml,
    enum_wrappers::device::{Clock, EccCounter, GpuVirtualizationMode, MemoryError, TemperatureSensor},
    enums::device::UsedGpuMemory,
    error::NvmlError,
    struct_wrappers::device::ProcessInfo,
};

/// Opens the library; `None` on a host that has no NVIDIA driver or no card.
///
/// # Errors
/// A driver is there and does not work: the operator must know, rather than be taken for a host without GPUs.
pub(super) fn open() -> Result<Option<Nvml>, NvmlError> {
    let nvml = match Nvml::init() {
        Ok(nvml) => nvml,
        Err(NvmlError::LibloadingError(_) | NvmlError::LibraryNotFound | NvmlError::DriverNotLoaded) => return Ok(None),
        Err(error) => return Err(error),
    };
    Ok((nvml.device_count()? > 0).then_some(nvml))
}

/// Reads all cards that the driver shows, by ascending UUID.
///
/// # Errors
/// A card does not answer the questions that every card answers (it may have fallen off the bus).
pub(super) fn read(nvml: &Nvml) -> Result<Vec<GpuMetrics>, NvmlError> {
    let driver = nvml.sys_driver_version()?;
    let mut gpus = (0..nvml.device_count()?)
        .map(|index| read_one(&nvml.device_by_index(index)?, &driver))
        .collect::<Result<Vec<_>, _>>()?;
    gpus.sort_unstable_by(|a, b| a.uuid.cmp(&b.uuid));
    Ok(gpus)
}

/// Reads one card with its details. A card that no longer answers is reported as lost, with what was `known` of it.
pub(super) fn inspect(nvml: &Nvml, known: &GpuMetrics) -> (GpuMetrics, GpuDetails) {
    let driver = nvml.sys_driver_version().unwrap_or_else(|_| known.driver.clone());
    let read = nvml.device_by_uuid(known.uuid.as_str()).and_then(|device| Ok((read_one(&device, &driver)?, device)));
    match read {
        Ok((metrics, device)) => (metrics, details(&device)),
        Err(error) => {
            tracing::warn!(uuid = known.uuid, %error, "a GPU does not answer");
            let GpuMetrics { uuid, model, driver, memory_total, .. } = known.clone();
            let metrics = GpuMetrics { uuid, model, driver, memory_total, ..GpuMetrics::default() };
            (metrics, GpuDetails { lost: true, ..GpuDetails::default() })
        }
    }
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

fn details(device: &Device<'_>) -> GpuDetails {
    let small = |value: Result<u32, NvmlError>| value.ok().and_then(|value| u8::try_from(value).ok());
    let compute = device.running_compute_processes().unwrap_or_default();
    let graphics = device.running_graphics_processes().unwrap_or_default();
    let mut processes: Vec<_> = compute.iter().map(|p| process(p, true)).collect();
    processes.extend(graphics.iter().map(|p| process(p, false)));
    processes.sort_by_key(|process| std::cmp::Reverse(process.memory));
    processes.truncate(MAX_PROCESSES);
    GpuDetails {
        compute_capability: device
            .cuda_compute_capability()
            .ok()
            .and_then(|c| Some((u8::try_from(c.major).ok()?, u8::try_from(c.minor).ok()?))),
        clock_max: device.max_clock_info(Clock::SM).ok(),
        memory_clock: device.clock_info(Clock::Memory).ok(),
        memory_clock_max: device.max_clock_info(Clock::Memory).ok(),
        pcie_generation_max: small(device.max_pcie_link_gen()),
        pcie_width_max: small(device.max_pcie_link_width()),
        pcie_address: device.pci_info().ok().map(|pci| pci.bus_id),
        memory_utilisation: small(device.utilization_rates().map(|rates| rates.memory)),
        power_limit: device.enforced_power_limit().ok(),
        ecc: device.is_ecc_enabled().ok().map(|state| state.currently_enabled),
        ecc_uncorrected_lifetime: device.total_ecc_errors(MemoryError::Uncorrected, EccCounter::Aggregate).ok(),
        virtualisation: device.virtualization_mode().ok().map(virtualisation),
        // The caller knows: events are seen when they happen, not when asked for.
        xids: Vec::new(),
        lost: false,
        processes,
    }
}

fn process(info: &ProcessInfo, compute: bool) -> GpuProcess {
    let memory = match info.used_gpu_memory {
        UsedGpuMemory::Used(bytes) => Some(bytes),
        UsedGpuMemory::Unavailable => None,
    };
    GpuProcess { pid: info.pid, memory, compute }
}

fn virtualisation(mode: GpuVirtualizationMode) -> Virtualisation {
    match mode {
        GpuVirtualizationMode::Bare => Virtualisation::None,
        GpuVirtualizationMode::PassThrough => Virtualisation::PassThrough,
        GpuVirtualizationMode::Vgpu => Virtualisation::Vgpu,
        GpuVirtualizationMode::HostVgpu => Virtualisation::HostVgpu,
        GpuVirtualizationMode::HostVsga => Virtualisation::HostVsga,
    }
}
