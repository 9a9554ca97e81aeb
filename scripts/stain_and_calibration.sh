#!/usr/bin/env bash
# The tables of a foreign stain and of calibration, from the GlaS archive to the result records:
#
#   bash scripts/stain_and_calibration.sh ARCHIVE.zip [ENCODER] [OUT] [RESULTS]
#
# ENCODER: Hub id or folder [nvidia/mit-b0]; OUT: folder for datasets and runs [runs/shift]; RESULTS: folder for the
# records [OUT/results]. What is there already is not made again, so an interrupted run goes on where it stopped.
set -euo pipefail
if [ $# -lt 1 ] || [ "$1" = --help ] || [ "$1" = -h ]; then sed -n '2,8s/^# \{0,1\}//p' "$0"; exit $(($# < 1)); fi
archive=$1 encoder=${2:-nvidia/mit-b0} out=${3:-runs/shift} 
results=${4:-$out/results}
python=${PYTHON:-python}
mkdir -p "$out"

dataset() { [ -e "$out/$1" ] || "$python" scripts/build_dataset.py glas --archive "$archive" --out "$out/$1" "${@:2}"; }
train() { [ -e "$out/$1/model" ] || "$python" scripts/train.py --dataset "$out/data" --out "$out/$1" "${@:2}"; }
evaluate() {  # run, name in the tables, datasets
  for data in "${@:3}"; do
    [ -e "$out/$1/eval-$data" ] || "$python" scripts/evaluate.py "$out/$1/model" "$out/$data" --split testA \
      --variant "$2" --results "$results" --out "$out/$1/eval-$data"
  done
}
calibrated() {  # labels, run
  if [ ! -e "$out/$2/eval-data" ]; then
    rm -rf "${out:?}/$2" && mkdir "$out/$2" && cp -r "$out/ours/model" "$out/$2/model"
    "$python" scripts/calibrate.py "$out/$2/model" "$out/data" --labels "$1"
    evaluate "$2" "ours-held-out-$2" data
  fi
}

dataset data
for strength in 1 2 3; do dataset "stain$strength" --stain-shift "$strength"; done
train ours --config bench --backbone "$encoder" --validate_every 60
train plain --config bench --backbone "$encoder" --variant no-stain-jitter
train naive --config bench --backbone "$encoder" --validate_every 60 --variant naive
train adapted --config adapt --variant adapted --backbone "$out/ours/model" --adapt_dataset "$out/stain3" --adapt_split validation
train continued --config adapt --variant continued --backbone "$out/ours/model"
evaluate ours ours-held-out data stain1 stain2 stain3
evaluate plain no-stain-jitter data stain1 stain2 stain3
evaluate naive naive-held-out data
evaluate adapted adapted data stain3
evaluate continued continued data stain3
calibrated sparse calibrated
calibrated dense calibrated-dense
