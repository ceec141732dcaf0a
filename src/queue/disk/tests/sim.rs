//! A simulated disk that loses what was not synced, fails on demand, and counts operations.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use super::super::files::{Files, LogFile};

/// SplitMix64 (Steele, Lea, Flood 2014).
#[derive(Debug, Clone)]
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end
    }

    /// Returns incompressible text.
    pub(super) fn text(&mut self, len: usize) -> String {
        (0..len).map(|_| char::from(b'!' + self.below(90) as u8)).collect()
    }
}

/// The simulated disk; clones share its state.
#[derive(Clone, Default)]
pub(super) struct Sim(Arc<Inner>);

#[derive(Default)]
struct Inner {
    state: Mutex<State>,
    faults: Faults,
}

/// Faults that stay until a test clears them.
#[derive(Debug, Default)]
pub(super) struct Faults {
    pub(super) writes_fail: AtomicBool,
    pub(super) syncs_fail: AtomicBool,
    pub(super) panics: AtomicBool,
}

#[derive(Default)]
pub(super) struct State {
    files: Vec<Content>,
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    pending_names: Vec<NameOp>,
    operations: u64,
    syncs: u64,
    written_bytes: u64,
    /// Capacity for all files together.
    capacity_bytes: Option<u64>,
    fail_at: Option<u64>,
    lose_power_at: Option<(u64, u64)>,
    after_power_loss: Option<Sim>,
}

#[derive(Default, Clone)]
struct Content {
    current: Vec<u8>,
    durable: Vec<u8>,
    pending: Vec<FileOp>,
}

#[derive(Clone)]
enum FileOp {
    Write(u64, Vec<u8>),
    Size(u64),
}

#[derive(Clone)]
enum NameOp {
    Link(String, usize),
    Rename(String, String, usize),
    Unlink(String),
}

struct SimFile {
    sim: Sim,
    number: usize,
}

fn apply_file(content: &mut Vec<u8>, op: &FileOp) {
    match op {
        FileOp::Write(offset, bytes) => {
            let (start, end) = (*offset as usize, *offset as usize + bytes.len());
            if content.len() < end {
                content.resize(end, 0);
            }
            content[start..end].copy_from_slice(bytes);
        }
        FileOp::Size(bytes) => content.resize(*bytes as usize, 0),
    }
}

fn apply_name(names: &mut BTreeMap<String, usize>, op: &NameOp) {
    match op {
        NameOp::Link(name, number) => drop(names.insert(name.clone(), *number)),
        NameOp::Rename(from, to, number) => {
            names.remove(from);
            names.insert(to.clone(), *number);
        }
        NameOp::Unlink(name) => drop(names.remove(name)),
    }
}

/// Splits a write into parts that a disk may write or lose independently.
fn sectors(op: &FileOp, random: &mut Random) -> Vec<FileOp> {
    let FileOp::Write(offset, bytes) = op else { return vec![op.clone()] };
    let size = [512, 4096, 1 + random.below(bytes.len() as u64 + 1)][random.below(3) as usize];
    let (mut at, mut rest, mut pieces) = (*offset, &bytes[..], Vec::new());
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(rest.len().min((size - at % size) as usize));
        pieces.push(FileOp::Write(at, piece.to_vec()));
        (at, rest) = (at + piece.len() as u64, after);
    }
    pieces
}

impl State {
    /// Simulates a power loss: any part of what was not synced survives.
    fn lose_power(&self, seed: u64) -> Sim {
        let mut random = Random(seed);
        // The share that survives, from nothing to all.
        let luck = random.below(5);
        let survives = |random: &mut Random| random.below(4) < luck;
        let mut after = Self { names: self.durable_names.clone(), ..Self::default() };
        for op in &self.pending_names {
            if survives(&mut random) {
                apply_name(&mut after.names, op);
            }
        }
        for content in &self.files {
            let mut current = content.durable.clone();
            for op in &content.pending {
                for piece in sectors(op, &mut random) {
                    if survives(&mut random) {
                        apply_file(&mut current, &piece);
                    }
                }
            }
            after.files.push(Content { durable: current.clone(), current, pending: Vec::new() });
        }
        after.durable_names = after.names.clone();
        Sim(Arc::new(Inner { state: Mutex::new(after), faults: Faults::default() }))
    }

    fn used_bytes(&self) -> u64 {
        self.names.values().map(|number| self.files[*number].current.len() as u64).sum()
    }
}

impl Sim {
    /// Locks the disk; until the guard is dropped, nothing is read or written.
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    pub(super) fn faults(&self) -> &Faults {
        &self.0.faults
    }

    pub(super) fn operations(&self) -> u64 {
        self.lock().operations
    }

    pub(super) fn syncs(&self) -> u64 {
        self.lock().syncs
    }

    pub(super) fn written_bytes(&self) -> u64 {
        self.lock().written_bytes
    }

    pub(super) fn used_bytes(&self) -> u64 {
        self.lock().used_bytes()
    }

    pub(super) fn set_capacity(&self, bytes: Option<u64>) {
        self.lock().capacity_bytes = bytes;
    }

    /// Makes the operation with this number fail.
    pub(super) fn fail_at(&self, operation: u64) {
        self.lock().fail_at = Some(operation);
    }

    /// Simulates a power loss at the operation with this number.
    pub(super) fn lose_power_at(&self, operation: u64, seed: u64) {
        self.lock().lose_power_at = Some((operation, seed));
    }

    pub(super) fn taken_after_power_loss(&self) -> Option<Self> {
        self.lock().after_power_loss.take()
    }

    pub(super) fn after_power_loss(&self, seed: u64) -> Self {
        self.lock().lose_power(seed)
    }

    /// Returns the disk as another process finds it after `kill -9`.
    pub(super) fn after_kill(&self) -> Self {
        let state = self.lock();
        let (names, pending_names) = (state.names.clone(), state.pending_names.clone());
        let (files, durable_names) = (state.files.clone(), state.durable_names.clone());
        let after = State { names, pending_names, files, durable_names, ..State::default() };
        Self(Arc::new(Inner { state: Mutex::new(after), faults: Faults::default() }))
    }

    pub(super) fn contents(&self, name: &str) -> Vec<u8> {
        let state = self.lock();
        state.files[state.names[name]].current.clone()
    }

    /// Changes a file durably, as another program would.
    pub(super) fn change(&self, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let mut state = self.lock();
        let number = state.names[name];
        let content = &mut state.files[number];
        change(&mut content.current);
        content.durable = content.current.clone();
        content.pending.clear();
    }

    pub(super) fn put(&self, name: &str, bytes: &[u8]) {
        self.create(name).unwrap();
        self.change(name, |content| *content = bytes.to_vec());
    }

    pub(super) fn named(&self, part: &str) -> Vec<String> {
        self.names().unwrap().into_iter().filter(|name| name.contains(part)).collect()
    }

    pub(super) fn segments(&self) -> Vec<String> {
        self.named("segment-").into_iter().filter(|name| name.ends_with(".log")).collect()
    }

    /// Counts an operation, and fails if it should fail.
    fn begin<'a>(&self, state: &mut MutexGuard<'a, State>) -> io::Result<()> {
        assert!(!self.faults().panics.load(Ordering::SeqCst), "requested by the test");
        let number = state.operations;
        state.operations += 1;
        match state.fail_at == Some(number) {
            true => Err(io::Error::other("the operation failed")),
            false => Ok(()),
        }
    }

    fn end(state: &mut MutexGuard<'_, State>) {
        if let Some((operation, seed)) = state.lose_power_at
            && state.operations == operation + 1
        {
            state.after_power_loss = Some(state.lose_power(seed));
        }
    }

    fn name(&self, op: NameOp) -> io::Result<()> {
        let mut state = self.lock();
        self.begin(&mut state)?;
        apply_name(&mut state.names, &op);
        state.pending_names.push(op);
        Self::end(&mut state);
        Ok(())
    }

    fn number(&self, name: &str) -> io::Result<usize> {
        self.lock().names.get(name).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl Files for Sim {
    fn names(&self) -> io::Result<Vec<String>> {
        Ok(self.lock().names.keys().cloned().collect())
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn LogFile>> {
        let number = {
            let mut state = self.lock();
            if state.capacity_bytes == Some(0) {
                return Err(io::ErrorKind::StorageFull.into());
            }
            state.files.push(Content::default());
            state.files.len() - 1
        };
        self.name(NameOp::Link(name.to_owned(), number))?;
        Ok(Box::new(SimFile { sim: self.clone(), number }))
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn LogFile>> {
        Ok(Box::new(SimFile { sim: self.clone(), number: self.number(name)? }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.name(NameOp::Rename(from.to_owned(), to.to_owned(), self.number(from)?))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.number(name)?;
        self.name(NameOp::Unlink(name.to_owned()))
    }

    fn sync_directory(&self) -> io::Result<()> {
        let mut state = self.lock();
        self.begin(&mut state)?;
        Self::end(&mut state);
        state.durable_names = state.names.clone();
        state.pending_names.clear();
        Ok(())
    }
}

impl SimFile {
    fn change(&self, op: FileOp) -> io::Result<()> {
        let mut state = self.sim.lock();
        let fails = self.sim.faults().writes_fail.load(Ordering::SeqCst);
        let begun = self.sim.begin(&mut state);
        let result = if fails { Err(io::ErrorKind::StorageFull.into()) } else { begun };
        let op = match (&result, op) {
            // A failed write may have written a part.
            (Err(_), FileOp::Write(offset, bytes)) => {
                FileOp::Write(offset, bytes[..bytes.len() / 2].to_vec())
            }
            (Err(_), FileOp::Size(_)) => return result,
            (Ok(()), op) => op,
        };
        let content = &mut state.files[self.number];
        apply_file(&mut content.current, &op);
        content.pending.push(op);
        Sim::end(&mut state);
        result
    }
}

impl LogFile for SimFile {
    fn size(&self) -> io::Result<u64> {
        Ok(self.sim.lock().files[self.number].current.len() as u64)
    }

    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let state = self.sim.lock();
        let range = offset as usize..offset as usize + buffer.len();
        let bytes = state.files[self.number].current.get(range).ok_or(io::ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(bytes);
        Ok(())
    }

    fn write_all_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let (size, used, capacity) = {
            let mut state = self.sim.lock();
            state.written_bytes += bytes.len() as u64;
            (state.files[self.number].current.len() as u64, state.used_bytes(), state.capacity_bytes)
        };
        let more = (offset + bytes.len() as u64).saturating_sub(size);
        if more > 0 && capacity.is_some_and(|capacity| used + more > capacity) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.change(FileOp::Write(offset, bytes.to_vec()))
    }

    fn set_size(&self, bytes: u64) -> io::Result<()> {
        self.change(FileOp::Size(bytes))
    }

    fn allocate(&self, bytes: u64) -> io::Result<()> {
        let more = bytes.saturating_sub(self.size()?);
        let (used, capacity) = {
            let state = self.sim.lock();
            (state.used_bytes(), state.capacity_bytes)
        };
        if capacity.is_some_and(|capacity| used + more > capacity) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.change(FileOp::Size(bytes))
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.sim.lock();
        state.syncs += 1;
        let failed = self.sim.begin(&mut state).is_err();
        Sim::end(&mut state);
        let content = &mut state.files[self.number];
        let pending = std::mem::take(&mut content.pending);
        if failed || self.sim.faults().syncs_fail.load(Ordering::SeqCst) {
            // As in kernels: the pages are no longer dirty, and were never written.
            return Err(io::Error::other("the sync failed"));
        }
        for op in pending {
            apply_file(&mut content.durable, &op);
        }
        Ok(())
    }
}
