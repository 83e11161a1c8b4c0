#pragma once

// The whole library. Written by tools/check_layers.py --write-umbrella.

#include <espalier/core/compiled.hpp>
#include <espalier/core/config.hpp>
#include <espalier/core/error.hpp>
#include <espalier/core/parallel.hpp>
#include <espalier/core/random.hpp>
#include <espalier/core/shape.hpp>
#include <espalier/core/simd.hpp>
#include <espalier/core/steady_clock.hpp>
#include <espalier/core/table.hpp>

#include <espalier/tensor/device.hpp>
#include <espalier/tensor/random.hpp>
#include <espalier/tensor/storage.hpp>
#include <espalier/tensor/swap_axes.hpp>
#include <espalier/tensor/tensor.hpp>
#include <espalier/tensor/view.hpp>

#include <espalier/cpu/accumulate.hpp>
#include <espalier/cpu/column_sum.hpp>
#include <espalier/cpu/elementwise.hpp>
#include <espalier/cpu/fixed_order.hpp>
#include <espalier/cpu/gather.hpp>
#include <espalier/cpu/gemm.hpp>
#include <espalier/cpu/lanes.hpp>
#include <espalier/cpu/map_rows.hpp>
#include <espalier/cpu/microkernel.hpp>
#include <espalier/cpu/reduce.hpp>
#include <espalier/cpu/winograd.hpp>
#include <espalier/cpu/workers.hpp>

#include <espalier/autograd/attributes.hpp>
#include <espalier/autograd/backward.hpp>
#include <espalier/autograd/channels.hpp>
#include <espalier/autograd/deferred.hpp>
#include <espalier/autograd/gradient_check.hpp>
#include <espalier/autograd/node.hpp>
#include <espalier/autograd/var.hpp>

#include <espalier/ops/activation.hpp>
#include <espalier/ops/adaptive_pool.hpp>
#include <espalier/ops/arithmetic.hpp>
#include <espalier/ops/batch_norm.hpp>
#include <espalier/ops/concat.hpp>
#include <espalier/ops/conv2d.hpp>
#include <espalier/ops/conv2d_options.hpp>
#include <espalier/ops/cross_entropy.hpp>
#include <espalier/ops/dropout.hpp>
#include <espalier/ops/feature_flow.hpp>
#include <espalier/ops/flow_options.hpp>
#include <espalier/ops/fused_activation.hpp>
#include <espalier/ops/join.hpp>
#include <espalier/ops/linear.hpp>
#include <espalier/ops/math.hpp>
#include <espalier/ops/matmul.hpp>
#include <espalier/ops/mode.hpp>
#include <espalier/ops/mse.hpp>
#include <espalier/ops/pad.hpp>
#include <espalier/ops/place.hpp>
#include <espalier/ops/pool.hpp>
#include <espalier/ops/reduce.hpp>
#include <espalier/ops/reshape.hpp>
#include <espalier/ops/slice.hpp>
#include <espalier/ops/softmax.hpp>

#include <espalier/nn/batch_norm.hpp>
#include <espalier/nn/conv2d.hpp>
#include <espalier/nn/dropout.hpp>
#include <espalier/nn/initialize.hpp>
#include <espalier/nn/join.hpp>
#include <espalier/nn/linear.hpp>
#include <espalier/nn/module.hpp>
#include <espalier/nn/network.hpp>
#include <espalier/nn/padded_shortcut.hpp>

#include <espalier/models/cnn.hpp>
#include <espalier/models/convolution.hpp>
#include <espalier/models/create.hpp>
#include <espalier/models/lenet.hpp>
#include <espalier/models/model.hpp>
#include <espalier/models/residual_block.hpp>
#include <espalier/models/residual_stage.hpp>
#include <espalier/models/resnet.hpp>
#include <espalier/models/vgg.hpp>
#include <espalier/models/wide_resnet.hpp>

#include <espalier/regularizers/feature_flow.hpp>
#include <espalier/regularizers/gauges.hpp>
#include <espalier/regularizers/penalties.hpp>

#include <espalier/pruning/certificate.hpp>
#include <espalier/pruning/cost.hpp>
#include <espalier/pruning/criteria.hpp>
#include <espalier/pruning/cut.hpp>
#include <espalier/pruning/follower.hpp>
#include <espalier/pruning/groups.hpp>
#include <espalier/pruning/latency.hpp>
#include <espalier/pruning/mask.hpp>
#include <espalier/pruning/placement.hpp>
#include <espalier/pruning/plan.hpp>
#include <espalier/pruning/planner.hpp>
#include <espalier/pruning/surgery.hpp>
#include <espalier/pruning/trace.hpp>

#include <espalier/data/atomic_file.hpp>
#include <espalier/data/augment.hpp>
#include <espalier/data/cifar.hpp>
#include <espalier/data/dataset.hpp>
#include <espalier/data/file.hpp>
#include <espalier/data/idx.hpp>
#include <espalier/data/image_cache.hpp>
#include <espalier/data/loader.hpp>
#include <espalier/data/normalize.hpp>
#include <espalier/data/synthetic.hpp>

#include <espalier/io/example.hpp>
#include <espalier/io/folder_lock.hpp>
#include <espalier/io/foreign_state.hpp>
#include <espalier/io/module_state.hpp>
#include <espalier/io/name_map.hpp>
#include <espalier/io/npy.hpp>
#include <espalier/io/tensor_file.hpp>
#include <espalier/io/torchvision.hpp>

#include <espalier/train/adam.hpp>
#include <espalier/train/clip.hpp>
#include <espalier/train/csv_log.hpp>
#include <espalier/train/ema.hpp>
#include <espalier/train/evaluate.hpp>
#include <espalier/train/optimizer.hpp>
#include <espalier/train/progress.hpp>
#include <espalier/train/schedule.hpp>
#include <espalier/train/sgd.hpp>
#include <espalier/train/trainer.hpp>

#include <espalier/report/progress_bar.hpp>
#include <espalier/report/svg_plot.hpp>
