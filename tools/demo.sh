#!/bin/sh
# SPDX-License-Identifier: MIT
# `make demo`: the model that ships with ivchat answers two questions about a video that ships with it, one
# conversation. Shows the frames that were looked at and the times; ends with what to type next.
#
#   tools/demo.sh PROGRAM        IVCHAT_MODELS_DIR is heeded, other IVCHAT_ variables are not
#
# Answers go to standard output as they are generated, the rest of the program's words to standard error.
set -u
program=${1:?'usage: tools/demo.sh PROGRAM'}
case $program in
/*) ;;
*) program=$PWD/$program ;;
esac
cd "$(dirname "$0")/.." || exit 1
video=examples/videos/demo.mp4
first='Explain to me step by step what happens.'
second='What happens at the end?'
release=OpenGVLab/InternVideo2_chat_8B_HD

for name in $(env | sed -n 's/^\(IVCHAT_[A-Z_]*\)=.*/\1/p'); do
    [ "$name" = IVCHAT_MODELS_DIR ] || unset "$name"
done
if [ ! -x "$program" ]; then
    echo "demo: no program $program; build it with 'make'" >&2
    exit 1
fi
if [ ! -f "$video" ]; then
    echo "demo: no video $video in this checkout" >&2
    exit 4
fi

echo "Two questions about $video:"
echo
"$program" chat -v --video "$video" -p "$first" -p "$second" </dev/null || exit
short=${program#"$PWD/"}
cat <<END

That was a small model that knows coloured shapes and how they move, nothing else. Next:

  other examples          ls examples/videos
  a conversation          $short chat --video $video
  a video of your own     $short chat --video FILE -p "What do you see in the video?"

The full-size model knows the world: 19 GB, behind a gate. Ask for access on
https://huggingface.co/$release, make a token there, then

  export HF_TOKEN=hf_...
  $short pull $release
  $short chat -m $release --video FILE -p "$first"

README.md says more; $short --help lists the commands.
END
