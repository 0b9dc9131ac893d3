//! Which GPUs there are, and what a process is told of the one that is its own.

use std::{
    io::Read as _,
    process::{Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use crate::env::job::{GPU, SLOT};

/// How long a driver's tool may take: the first call after a start wakes the devices.
const LIMIT: Duration = Duration::from_secs(30);

/// What each vendor's tool prints a line of for each device: what stands before the device's number
/// in it, and what behind it.
const TOOLS: [Tool; 2] = [
    Tool { words: &["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"], before: "", after: "" },
    Tool { words: &["rocm-smi", "--showid", "--csv"], before: "card", after: "," },
];

struct Tool {
    words: &'static [&'static str],
    before: &'static str,
    after: &'static str,
}

/// The devices that are meant: `all`, or a list of numbers or of CUDA's names.
///
/// # Errors
///
/// A sentence that says what to give instead.
pub fn devices(gpus: &str) -> Result<Vec<String>, String> {
    if gpus.trim() == "all" {
        return all();
    }
    let named = named(gpus)?;
    if let Ok(found) = found()
        && let Some(unknown) = named.iter().find(|name| is_number(name) && !found.contains(name))
    {
        return Err(format!("there is no GPU {unknown} here; there are {}", found.join(", ")));
    }
    Ok(named)
}

fn all() -> Result<Vec<String>, String> {
    for variable in ["CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES"] {
        if let Some(seen) = std::env::var_os(variable) {
            // Whoever started this worker has chosen already.
            let seen = seen.to_string_lossy().into_owned();
            return named(&seen).map_err(|why| format!("{variable} is {seen:?}: {why}"));
        }
    }
    found().map_err(|why| format!("no GPU was found ({why}); name those that there are, as in 0,1"))
}

fn named(gpus: &str) -> Result<Vec<String>, String> {
    let names: Vec<&str> = gpus.split(',').map(str::trim).filter(|name| !name.is_empty()).collect();
    for (at, name) in names.iter().enumerate() {
        if !is_number(name) && !is_name(name) {
            return Err(format!("`{name}` is not a GPU; give all, or numbers such as 0,2"));
        }
        if names[..at].contains(name) {
            return Err(format!(
                "GPU {name} is named twice in {gpus}; for several slots on each, give the number of slots per GPU"
            ));
        }
    }
    if names.is_empty() {
        return Err("no GPU is named; give all, or numbers such as 0,2".into());
    }
    Ok(names.into_iter().map(str::to_owned).collect())
}

fn is_number(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_digit())
}

/// Whether it is a name of CUDA's: of a device, or of a part of one.
fn is_name(name: &str) -> bool {
    let rest = name.strip_prefix("GPU-").or_else(|| name.strip_prefix("MIG-"));
    rest.is_some_and(|rest| {
        !rest.is_empty()
            && rest.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'/'))
    })
}

/// The numbers of the devices by the driver's own tool, or why there are none.
fn found() -> Result<Vec<String>, String> {
    let mut why = "neither nvidia-smi nor rocm-smi is here".to_owned();
    for tool in &TOOLS {
        match tool.ask() {
            Ok(found) if found.is_empty() => why = format!("{} names none", tool.words[0]),
            Ok(found) => return Ok(found),
            Err(None) => {}
            Err(Some(error)) => why = format!("{} failed: {error}", tool.words[0]),
        }
    }
    Err(why)
}

impl Tool {
    /// The numbers that it prints; no error where there is no such tool.
    fn ask(&self) -> Result<Vec<String>, Option<String>> {
        let mut command = Command::new(self.words[0]);
        command.args(&self.words[1..]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command
            .spawn()
            .map_err(|error| (error.kind() != std::io::ErrorKind::NotFound).then(|| error.to_string()))?;
        let (done, said) = mpsc::channel();
        if let Some(mut stdout) = child.stdout.take() {
            // A driver that hangs holds its tool, which may then not even be killed.
            thread::spawn(move || {
                let mut text = String::new();
                let _ = stdout.read_to_string(&mut text);
                let _ = done.send(text);
            });
        }
        let Ok(text) = said.recv_timeout(LIMIT) else {
            let _ = child.kill();
            return Err(Some(format!("it takes longer than {LIMIT:?}")));
        };
        let status = child.wait().map_err(|error| Some(error.to_string()))?;
        if !status.success() {
            return Err(Some(status.to_string()));
        }
        Ok(text.lines().filter_map(|line| self.number(line)).collect())
    }

    fn number(&self, line: &str) -> Option<String> {
        let rest = line.trim().strip_prefix(self.before)?;
        let number = if self.after.is_empty() { rest } else { rest.split_once(self.after)?.0 };
        is_number(number).then(|| number.to_owned())
    }
}

const ORDER: &str = "CUDA_DEVICE_ORDER";

/// What a process of this slot is to have in its environment, before it starts.
pub fn environment(slot: usize, device: Option<&str>) -> Vec<(&'static str, String)> {
    let mut told = vec![(SLOT, slot.to_string())];
    if let Some(device) = device {
        for name in [GPU, "CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES"] {
            told.push((name, device.to_owned()));
        }
        // By default CUDA counts the fastest first, and the tools by the place on the bus.
        told.push((ORDER, std::env::var(ORDER).unwrap_or_else(|_| "PCI_BUS_ID".to_owned())));
    }
    told
}

/// A slot, for people.
pub fn name(slot: usize, device: Option<&str>) -> String {
    match device {
        Some(device) => format!("slot {slot}, GPU {device}"),
        None => format!("slot {slot}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names_are_devices() {
        assert_eq!(named(" 0, 2 "), Ok(vec!["0".to_owned(), "2".to_owned()]));
        let name = "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6";
        assert_eq!(named(name), Ok(vec![name.to_owned()]));
        assert!(named("MIG-GPU-8932f937/1/0").is_ok());
        for (gpus, why) in [
            ("0;1", "`0;1` is not a GPU; give all, or numbers such as 0,2"),
            ("GPU-", "`GPU-` is not a GPU; give all, or numbers such as 0,2"),
            ("", "no GPU is named; give all, or numbers such as 0,2"),
            (
                "0,1,0",
                "GPU 0 is named twice in 0,1,0; for several slots on each, give the number of slots per GPU",
            ),
        ] {
            assert_eq!(named(gpus), Err(why.to_owned()));
        }
    }

    #[test]
    fn tools_name_devices_by_their_numbers() {
        let [nvidia, rocm] = &TOOLS;
        assert_eq!(nvidia.number("3 "), Some("3".to_owned()));
        assert_eq!(nvidia.number("No devices were found"), None);
        assert_eq!(rocm.number("card11,0x74a1"), Some("11".to_owned()));
        assert_eq!(rocm.number("device,Device ID"), None);
    }
}
