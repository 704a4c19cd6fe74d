//! What must hold for any files whatever; shared with the fuzz targets.

use std::sync::Arc;

use longshore_storage::{
    Batch, Disk, Entry, Log, OpenError, Options, Refused, SimulatedDisk, repair, verify,
};

/// Choices, made by bytes; when they have run out, the first choice is always made.
struct Source<'a> {
    bytes: core::slice::Iter<'a, u8>,
}

impl Source<'_> {
    fn byte(&mut self) -> u8 {
        self.bytes.next().copied().unwrap_or(0)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::from(self.byte()) % end
    }

    fn u32(&mut self) -> u32 {
        u32::from_le_bytes([self.byte(), self.byte(), self.byte(), self.byte()])
    }

    fn is_empty(&self) -> bool {
        self.bytes.len() == 0
    }
}

const SEGMENT_BYTES: u32 = 4096;

type Record = (u8, Vec<u8>);

/// A directory with any files in it is opened or refused; verified; repaired; opened then with as
/// many records as were counted; and appended to.
pub(crate) fn opens_or_repairs_anything(data: &[u8]) {
    let mut source = Source { bytes: data.iter() };
    let disk = SimulatedDisk::new(1);
    for number in 1..=source.below(4) as u32 + 1 {
        match source.below(8) {
            0 => {}
            1 => disk.put(&format!("{number:010}.retired"), vec![]),
            2 => {
                let length = source.below(64);
                let bytes = (0..length).map(|_| source.byte()).collect();
                disk.put(&format!("{number:010}.segment"), bytes);
            }
            3 => disk.put("draft", vec![1; 100]),
            _ => disk.put(&format!("{number:010}.segment"), segment(&mut source, number)),
        }
    }
    let Ok(before) = open(&disk) else { return repairs(&disk) };
    let report = verify(&shared(&disk), &mut |_, _| {}).expect("what opens can be verified");
    assert!(report.losses.is_empty(), "what opens is sound: {:?}", report.losses);
    assert_eq!(report.records, before.len() as u64);
    goes_on(&disk, before);
}

fn shared(disk: &SimulatedDisk) -> Arc<dyn Disk> {
    Arc::new(disk.clone())
}

fn options() -> Options {
    let mut options = Options::default();
    options.segment_bytes = SEGMENT_BYTES;
    options.seed = 1;
    options
}

fn open(disk: &SimulatedDisk) -> Result<Vec<Record>, OpenError> {
    let mut found = Vec::new();
    let mut replay = |entry: Entry<'_>| found.push((entry.kind, entry.body.to_vec()));
    Log::open(shared(disk), &options(), &mut replay).map(|_| found)
}

fn repairs(disk: &SimulatedDisk) {
    let repaired = repair(&shared(disk), &mut |_, _| {}).expect("the disk is sound");
    let found = open(disk).unwrap_or_else(|error| panic!("after {repaired:?}: {error}"));
    assert_eq!(repaired.report.records, found.len() as u64, "{repaired:?}");
    goes_on(disk, found);
}

/// Whatever was found, the log takes more and has all of it afterwards.
fn goes_on(disk: &SimulatedDisk, mut expected: Vec<Record>) {
    let (mut log, _) =
        Log::open(shared(disk), &options(), &mut |_: Entry<'_>| {}).expect("it opened before");
    let mut batch = Batch::new();
    for length in [0, 3000, 700] {
        batch.push(7, &vec![7; length]);
        expected.push((7, vec![7; length]));
    }
    while let Err(Refused::Busy) = log.append(&mut batch) {
        log.commit().expect("the disk is sound");
    }
    log.commit().expect("the disk is sound");
    drop(log);
    let found = open(disk).expect("it opened before");
    let outline = |records: &[Record]| -> Vec<(u8, usize)> {
        records.iter().map(|(kind, body)| (*kind, body.len())).collect()
    };
    assert!(found == expected, "{:?}, not {:?}", outline(&found), outline(&expected));
}

/// A segment whose fragments have the right checksums, but whatever else the source says.
fn segment(source: &mut Source<'_>, number: u32) -> Vec<u8> {
    let salt = 0x0102_0304_u32;
    let mut bytes = vec![0; SEGMENT_BYTES as usize];
    let mut header = [0; 32];
    header[..8].copy_from_slice(b"LSJOURNL");
    header[8..12].copy_from_slice(&1_u32.to_le_bytes());
    header[16..20].copy_from_slice(&number.to_le_bytes());
    header[20..24].copy_from_slice(&SEGMENT_BYTES.to_le_bytes());
    header[24..28].copy_from_slice(&salt.to_le_bytes());
    let checksum = crc32c::crc32c_append(crc32c::crc32c(&header[..12]), &header[16..]);
    header[12..16].copy_from_slice(&checksum.to_le_bytes());
    bytes[..32].copy_from_slice(&header);
    bytes[256..288].copy_from_slice(&header);

    let mut offset = 512;
    let mut epoch = 0;
    // No restart was ever written behind what is torn: it would stand where the tear is.
    let mut is_torn = false;
    while offset + 12 <= bytes.len() && !source.is_empty() {
        let room = bytes.len() - offset - 12;
        let part = source.byte() % 10;
        let is_barrier = part == 5 || part == 6;
        let length = match source.below(8) {
            _ if is_barrier => 4,
            0 => room,
            1 => room.saturating_sub(source.below(32)),
            2 => source.u32() as usize,
            3 => source.below(256) * 16,
            _ => source.below(40),
        };
        let mut body = vec![source.byte(); length.min(room)];
        let before = epoch;
        if is_barrier && room >= 4 {
            let next = source.byte().max(epoch);
            epoch = if is_torn { epoch } else { next };
            body.copy_from_slice(&u32::from(epoch).to_le_bytes());
        }
        let checked = if part == 7 || part == 8 { 0 } else { crc32c::crc32c(&body) };
        let mut fragment = [0; 16];
        fragment[..4].copy_from_slice(&(length as u32).to_le_bytes());
        fragment[4] = part;
        fragment[5] = source.byte() % 2;
        fragment[8..12].copy_from_slice(&checked.to_le_bytes());
        fragment[12..].copy_from_slice(&salt.to_le_bytes());
        let start = (number << 8 | u32::from(epoch)) ^ offset as u32;
        let mut checksum = crc32c::crc32c_append(start, &fragment);
        let is_sound = (1..=8).contains(&part) && length <= room && source.below(16) != 15;
        checksum ^= u32::from(!is_sound);
        if !is_sound {
            is_torn = true;
            epoch = before;
        }
        bytes[offset..offset + 4].copy_from_slice(&checksum.to_le_bytes());
        bytes[offset + 4..offset + 12].copy_from_slice(&fragment[..8]);
        bytes[offset + 12..offset + 12 + body.len()].copy_from_slice(&body);
        offset += 12 + body.len();
    }
    if source.below(8) == 7 {
        bytes.truncate(source.below(256) * 16);
    }
    bytes
}
