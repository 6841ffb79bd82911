//! CPU and memory of a process and its children, read from procfs.

use std::fs;

use crate::Result;

/// Clock ticks a second in procfs; fixed at 100 by the kernel's user interface.
const TICKS: f64 = 100.0;

/// CPU-seconds (user and system) of a process, its living descendants and its waited-for children.
pub fn cpu_seconds(pid: u32) -> Result<f64> {
    let mut total = 0.0;
    for id in family(pid)? {
        let Ok(stat) = fs::read_to_string(format!("/proc/{id}/stat")) else { continue };
        let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
        // utime stime cutime cstime are fields 14 to 17 of proc(5); the first two went with the name.
        let ticks: f64 = fields.iter().skip(11).take(4).filter_map(|f| f.parse::<f64>().ok()).sum();
        total += ticks / TICKS;
    }
    Ok(total)
}

/// Resident bytes of one process.
pub fn rss_bytes(pid: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).ok_or("no VmRSS")?;
    let kib: u64 = line.split_whitespace().nth(1).ok_or("no number")?.parse()?;
    Ok(kib * 1024)
}

/// A process and its living descendants.
fn family(root: u32) -> Result<Vec<u32>> {
    let mut parents = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { continue };
        let after_name = stat.rsplit(") ").next().unwrap_or_default();
        let parent = after_name.split(' ').nth(1).and_then(|text| text.parse::<u32>().ok());
        parents.push((pid, parent.unwrap_or(0)));
    }
    let mut members = vec![root];
    let mut index = 0;
    while index < members.len() {
        let parent = members[index];
        members.extend(parents.iter().filter(|(_, up)| *up == parent).map(|(pid, _)| *pid));
        index += 1;
    }
    Ok(members)
}
