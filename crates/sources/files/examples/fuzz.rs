//! Fuzzing on a stable compiler: `fuzz TARGET SECONDS [SEED]` mutates the inputs of `corpus/TARGET` and passes them to the
//! target, a plain function that panics when something that must hold does not. An input that makes it panic is written to
//! the folder of temporary files and named; put it into the corpus once it is understood.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::{Duration, Instant};

/// Pieces that mean something to one of the formats.
const WORDS: &[&[u8]] = &[
    b"{",
    b"}",
    b"[",
    b"]",
    b"\"",
    b"\\",
    b"\\ud83d",
    b"null",
    b"true",
    b"1e400",
    b"-0",
    b",",
    b";",
    b"\t",
    b"|",
    b"\n",
    b"\r\n",
    b"\r",
    b"\"\"",
    b"<",
    b">",
    b"</",
    b"/>",
    b"<!--",
    b"-->",
    b"<![CDATA[",
    b"]]>",
    b"<?",
    b"?>",
    b"<!DOCTYPE a [",
    b"<!ENTITY e \"&e;\">",
    b"&e;",
    b"&#x10FFFF;",
    b"&amp;",
    b" a=\"b\"",
    b"'",
    b"\xff",
    b"\xef\xbb\xbf",
    b"\x00",
    b"9999999999999999999",
    b"2024-02-30T25:61:61Z",
];

fn main() -> Result<(), String> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [name, seconds, seed @ ..] = arguments.as_slice() else { return Err("usage: fuzz TARGET SECONDS [SEED]".into()) };
    let target: fn(&[u8]) = match name.as_str() {
        "json" => longshore_files::fuzz::fuzz_json,
        "csv" => longshore_files::fuzz::fuzz_csv,
        "xml" => longshore_files::xml::fuzz::fuzz_xml,
        other => return Err(format!("there is no target {other}: json, csv, xml")),
    };
    let seconds: u64 = seconds.parse().map_err(|_| format!("{seconds} is no number of seconds"))?;
    let clock = || std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(1, |time| time.as_nanos() as u64);
    let seed: u64 = seed.first().map_or_else(|| Ok(clock()), |seed| seed.parse().map_err(|_| format!("{seed} is no seed")))?;
    let corpus = read_corpus(name)?;
    for input in &corpus {
        run(name, seed, target, input)?;
    }
    let mut random = Random(seed | 1);
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut inputs = 0u64;
    while Instant::now() < end {
        let input = mutate(&mut random, &corpus);
        run(name, seed, target, &input)?;
        inputs += 1;
    }
    println!("fuzz {name}: {inputs} inputs, seed {seed}");
    Ok(())
}

fn read_corpus(name: &str) -> Result<Vec<Vec<u8>>, String> {
    // As cargo says it now: two checkouts that share a target folder also share this binary.
    let package = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    let folder = Path::new(&package).join("corpus").join(name);
    let entries = std::fs::read_dir(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    let inputs: Result<Vec<_>, _> = paths.iter().map(std::fs::read).collect();
    inputs.map_err(|e| format!("{}: {e}", folder.display()))
}

fn run(name: &str, seed: u64, target: fn(&[u8]), input: &[u8]) -> Result<(), String> {
    catch_unwind(AssertUnwindSafe(|| target(input))).map_err(|_| {
        let path = std::env::temp_dir().join(format!("longshore-fuzz-{name}-{}", blake3::hash(input).to_hex()));
        match std::fs::write(&path, input) {
            Ok(()) => format!("{name} panicked (seed {seed}) at the input {}", path.display()),
            Err(e) => format!("{name} panicked (seed {seed}); its input could not be kept: {e}"),
        }
    })
}

/// A corpus input with one to eight changes: bytes changed, removed, doubled, words put in, another input spliced in.
fn mutate(random: &mut Random, corpus: &[Vec<u8>]) -> Vec<u8> {
    let mut input = corpus[random.below(corpus.len())].clone();
    for _ in 0..=random.below(8) {
        let at = random.below(input.len() + 1);
        let len = random.below(input.len() - at + 1).min(random.below(64) + 1);
        match random.below(6) {
            0 if at < input.len() => input[at] = random.below(256) as u8,
            1 => drop(input.drain(at..at + len)),
            2 => drop(input.splice(at..at, WORDS[random.below(WORDS.len())].iter().copied())),
            3 => {
                let piece = input[at..at + len].to_vec();
                let times = 1 + random.below(40);
                drop(input.splice(at..at, piece.repeat(times)));
            }
            4 => input.truncate(at),
            _ => {
                let other = &corpus[random.below(corpus.len())];
                let from = random.below(other.len() + 1);
                drop(input.splice(at..at, other[from..].iter().copied()));
            }
        }
        input.truncate(64 << 10);
    }
    input
}

/// Numbers by chance, repeatable from their seed (xorshift).
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end.max(1) as u64) as usize
    }
}
