"""Counts launches in short texts in the format of XLA."""

import pytest

from benchmarks.gpu_compile import count_kernels, count_launches, host_issues

PROGRAM = """HloModule jit__many

%small (p: f32[]) -> f32[] {
  %p = f32[] parameter(0)
  ROOT %add = f32[] add(%p, %p)
}

%body (p.1: (s32[], f32[4])) -> (s32[], f32[4]) {
  %p.1 = (s32[], f32[4]{0}) parameter(0)
  %get-tuple-element = f32[4]{0} get-tuple-element(%p.1), index=1
  %loop_fusion = (f32[4]{0}, f32[4]{0}) fusion(%get-tuple-element), kind=kLoop, calls=%small
  %conv = (bf16[4]{0}, u8[0]{0}) custom-call(%loop_fusion), custom_call_target="__cudnn$convForward"
  %fusion-start = ((f32[4]{0}), f32[1]{0}, u32[]) fusion-start(%conv), kind=kLoop, calls=%small
  %fusion-done = f32[1]{0} fusion-done(%fusion-start)
  %copy = f32[4]{0} copy(%fusion-done)
  ROOT %tuple = (s32[], f32[4]{0}) tuple(%copy)
}

ENTRY %main (p.2: f32[4]) -> f32[4] {
  %p.2 = f32[4]{0} parameter(0)
  %while = (s32[], f32[4]{0}) while(%p.2), condition=%small, body=%body
}
"""

GRAPH_A_STEP = """000: kCommandBuffer [source]
    001: kCopy         [source | sink] kCopy
017: kWhile         [prev=000 (1)]
condition:
    018: kCustomKernel [source | sink] loop_compare_fusion
  body:
    019: kCommandBuffer [source | sink]
        020: kConvolution [source] kConvolution
    021: kCustomKernel [source] loop_add_fusion
"""

GRAPH_OF_THE_LOOP = """000: kCommandBuffer [source | sink]
    001: kWhile        [prev=016 (1)]
condition:
        018: kCustomKernel [source | sink] loop_compare_fusion
      body:
        019: kCustomKernel [source] input_reduce_fusion
        020: kConvolution [source] kConvolution
002: kCopy [source] kCopy
"""


def test_what_launches_in_the_body_of_the_loop():
    assert count_kernels(PROGRAM) == {"fusion": 2, "__cudnn$convForward": 1, "copy": 1}
    with pytest.raises(ValueError, match="no loop"):
        count_kernels("ENTRY %main () -> f32[] {\n}\n")


def test_what_the_host_issues():
    assert host_issues(GRAPH_A_STEP) == ({"kCommandBuffer": 1, "kCustomKernel": 1}, "step")
    assert host_issues(GRAPH_OF_THE_LOOP) == ({"kCommandBuffer": 1, "kCopy": 1}, "loop")


def test_launches_of_a_step_in_graphs_and_outside():
    assert count_launches(GRAPH_A_STEP) == {"kConvolution": 1, "kCustomKernel": 1}
    assert count_launches(GRAPH_OF_THE_LOOP) == {"kConvolution": 1, "kCustomKernel": 1}
