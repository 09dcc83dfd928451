//! Replays the corpus, so that faults that fuzzing found stay fixed.

use std::fs;
use std::path::Path;

use hookcast_fuzz::TARGETS;

#[test]
fn every_input_of_the_corpus_passes() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for (name, target) in TARGETS {
        let directory = corpus.join(name);
        let entries = fs::read_dir(&directory)
            .unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
        let mut inputs = 0;
        for entry in entries {
            let path = entry.expect("a directory is read").path();
            let bytes = fs::read(&path).expect("a file is read");
            // Printed before the panic, so that the input is known.
            println!("{}", path.display());
            target(&bytes);
            inputs += 1;
        }
        assert!(inputs > 0, "no inputs for {name}");
        println!("{inputs} inputs for {name}");
    }
}
